//! A kubelet that has ended between NodeUnpublishVolume and NodeUnstageVolume, and never unstages.

use std::fs;
use std::time::Duration;

use quarry::csi::request::capability::{Access, AccessMode, Capability};
use quarry::node::stage;
use tokio::time::sleep;
use tonic::Code;

use crate::call::Call::{Create, Delete, Publish, Stage, Unpublish};
use crate::call::Use::Mount;
use crate::orchestrator::Orchestrator;
use crate::requests::id;
use crate::seat::Bench;

const PVC: &str = "pvc-1";
const LONG: Duration = Duration::from_mins(2);

async fn with_volume() -> Orchestrator {
    let mut orchestrator = Orchestrator::new(&Bench::new(None));
    orchestrator.perform(Create(PVC, "fast", 2)).await;
    orchestrator
}

/// That it is mounted as before, and not deleted.
async fn assert_refused(orchestrator: &Orchestrator) {
    let mounts = orchestrator.bench.machine().mounts.clone();
    let refused = orchestrator.once(Delete(PVC)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("unpublish and unstage it first"), "{refused}");
    let machine = orchestrator.bench.machine();
    assert_eq!(machine.mounts, mounts);
    assert!(!machine.volume("vg", PVC).unwrap().is_deleting());
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_kubelet_has_forgotten_is_unstaged_and_deleted_after_half_a_minute() {
    let mut orchestrator = with_volume().await;
    let of_others = orchestrator.bench.machine().mounts.clone();
    for call in [Stage(PVC, Mount), Publish(PVC, "one", Mount), Unpublish(PVC, "one")] {
        orchestrator.perform(call).await;
    }
    assert_refused(&orchestrator).await;
    sleep(Duration::from_secs(29)).await;
    assert_refused(&orchestrator).await;
    sleep(Duration::from_secs(2)).await;
    orchestrator.once(Delete(PVC)).await.unwrap();
    let machine = orchestrator.bench.machine();
    assert_eq!(machine.mounts, of_others);
    assert!(machine.volume("vg", PVC).unwrap().is_deleting());
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_kubelet_knows_of_is_left_staged() {
    let mut orchestrator = with_volume().await;
    orchestrator.perform(Stage(PVC, Mount)).await;
    assert_refused(&orchestrator).await;
    sleep(LONG).await;
    orchestrator.perform(Stage(PVC, Mount)).await;
    assert_refused(&orchestrator).await;
    sleep(LONG).await;
    orchestrator.perform(Publish(PVC, "one", Mount)).await;
    assert_refused(&orchestrator).await;
    sleep(LONG).await;
    assert_refused(&orchestrator).await;
    orchestrator.perform(Unpublish(PVC, "one")).await;
    assert_refused(&orchestrator).await;
}

#[tokio::test(start_paused = true)]
async fn what_others_than_kubelet_have_staged_is_theirs_to_unstage() {
    let orchestrator = with_volume().await;
    let other = orchestrator.root().join("nomad");
    fs::create_dir(&other).unwrap();
    let access = Access::Mount { file_system: None, flags: Vec::new() };
    let capability = Capability { access, mode: AccessMode::Writer };
    let stage = stage::Stage { volume_id: id(PVC), staging_path: other, capability };
    orchestrator.node.stage(stage).await.unwrap();
    for _ in 0..3 {
        assert_refused(&orchestrator).await;
        sleep(LONG).await;
    }
}
