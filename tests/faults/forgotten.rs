//! A kubelet that has ended between `NodeUnpublishVolume` and `NodeUnstageVolume`, and never unstages.

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
    assert!(refused.message().contains("is mounted at"), "{refused}");
    let machine = orchestrator.bench.machine();
    assert_eq!(machine.mounts, mounts);
    assert!(!machine.volume("vg", PVC).unwrap().is_deleting());
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_kubelet_has_forgotten_is_unstaged_and_deleted_after_25_seconds() {
    let mut orchestrator = with_volume().await;
    let of_others = orchestrator.bench.machine().mounts.clone();
    for call in [Stage(PVC, Mount), Publish(PVC, "one", Mount), Unpublish(PVC, "one")] {
        orchestrator.perform(call).await;
    }
    assert_refused(&orchestrator).await;
    sleep(Duration::from_secs(24)).await;
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
    for calls in [vec![Stage(PVC, Mount)], vec![Publish(PVC, "one", Mount), Unpublish(PVC, "one")]] {
        assert_refused(&orchestrator).await;
        sleep(LONG).await;
        for call in calls {
            orchestrator.perform(call).await;
        }
    }
    assert_refused(&orchestrator).await;
    orchestrator.perform(Publish(PVC, "one", Mount)).await;
    for _ in 0..3 {
        sleep(LONG).await;
        assert_refused(&orchestrator).await;
    }
    orchestrator.perform(Unpublish(PVC, "one")).await;
    assert_refused(&orchestrator).await;
}

#[tokio::test(start_paused = true)]
async fn what_others_than_kubelet_have_staged_is_theirs_to_unstage() {
    let orchestrator = with_volume().await;
    let of_kubelet = orchestrator.staging(PVC);
    let other_driver = of_kubelet.to_string_lossy().replace("lvm.quarry.storage", "other.quarry.storage");
    let others = [orchestrator.root().join("nomad"), other_driver.into(), orchestrator.staging("pvc-2")];
    for other in others {
        fs::create_dir_all(&other).unwrap();
        let access = Access::Mount { file_system: None, flags: Vec::new() };
        let capability = Capability { access, mode: AccessMode::Writer };
        let stage = stage::Stage { volume_id: id(PVC), staging_path: other.clone(), capability };
        orchestrator.node.stage(stage).await.unwrap();
        for _ in 0..3 {
            assert_refused(&orchestrator).await;
            sleep(LONG).await;
        }
        orchestrator.node.unstage(&id(PVC), other).await.unwrap();
    }
}
