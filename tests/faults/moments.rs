//! What goes on beside a call: the source of a copy or of a snapshot is written to, or lvm holds a device back.

use std::time::Duration;

use quarry::lvm::tags::KIND_COPY_SOURCE;
use quarry::lvm::writer::Activation;
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::call::Call::{self, Copy, Create, Publish, Snapshot, Stage, Write};
use crate::call::From;
use crate::call::Use::{Block, Mount};
use crate::disk_format::EXTENT;
use crate::observation::{Text, file_system_on, text_on};
use crate::orchestrator::Orchestrator;
use crate::seat::Bench;

const PVC: &str = "pvc-1";
const COPY: &str = "pvc-2";
const SNAPSHOT: &str = "snapshot-00000000-0000-4000-8000-000000000001";
const MAKE: Call = Copy(COPY, "fast", 2, From::Volume(PVC));
const SOON: Duration = Duration::from_secs(1);

/// A copy of a volume that nobody had used, whose process ended when a command with that text was about to run; then the
/// volume is used.
async fn broken_off(hanging: &str) -> Orchestrator {
    let mut orchestrator = Orchestrator::new(&Bench::new(None));
    orchestrator.perform(Create(PVC, "thin", 2)).await;
    orchestrator.bench.hang_effects_with(Some(hanging));
    assert!(timeout(SOON, orchestrator.once(MAKE)).await.is_err());
    orchestrator.restart();
    orchestrator.bench.hang_effects_with(None);
    for call in [Stage(PVC, Mount), Publish(PVC, "one", Mount), Write("one")] {
        orchestrator.perform(call).await;
    }
    orchestrator
}

fn tags(orchestrator: &Orchestrator) -> Vec<String> {
    orchestrator.bench.machine().volume("vg", COPY).unwrap().tags.clone()
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_tagged_with_what_its_source_held_at_the_moment_that_is_copied() {
    // What is read was made, and the copy was not.
    let orchestrator = broken_off(&format!("--name {COPY} ")).await;
    orchestrator.once(MAKE).await.unwrap();
    let of_files: Vec<String> = tags(&orchestrator).into_iter().filter(|tag| tag.starts_with("quarry.fs=")).collect();
    assert_eq!(of_files, Vec::<String>::new());
    let machine = orchestrator.bench.machine();
    let copy = machine.volume("vg", COPY).unwrap();
    assert_eq!((text_on(&machine, "vg", copy), file_system_on(&machine, "vg", copy)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_made_anew_when_what_is_read_is_of_another_moment_than_its_tags() {
    // The copy was made, and not filled; what was to be read is taken away.
    let orchestrator = broken_off("--deltag quarry.unfinished").await;
    assert!(tags(&orchestrator).contains(&String::from("quarry.unfinished")));
    let node = &orchestrator.node;
    let view = node.groups.read().await.unwrap();
    let group = view.group("vg").unwrap();
    let read = group.logical_volumes.iter().find(|logical| logical.tags.iter().any(|tag| tag == KIND_COPY_SOURCE));
    let (turn, names) = (node.writer.turn("vg").await, [read.unwrap().name.clone()]);
    node.writer.remove(&turn, group, &names, Activation::default()).await.unwrap();
    drop(turn);
    let refused = orchestrator.once(MAKE).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("delete the copy and make it anew"), "{refused}");
    orchestrator.start_reaper_after(Duration::ZERO);
    sleep(Duration::from_secs(100)).await;
    orchestrator.once(MAKE).await.unwrap();
    assert!(tags(&orchestrator).contains(&String::from("quarry.fs=ext4")));
    let machine = orchestrator.bench.machine();
    assert_eq!(text_on(&machine, "vg", machine.volume("vg", COPY).unwrap()), Some(Text::First));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_made_although_its_pool_reaches_the_mark_before_lvm_looks() {
    let mut orchestrator = Orchestrator::new(&Bench::new(None));
    orchestrator.perform(Create(PVC, "thin", 4)).await;
    orchestrator.perform(Stage(PVC, Block)).await;
    orchestrator.bench.hang_effects_with(Some(" --snapshot "));
    let user = async {
        sleep(SOON).await;
        let mut machine = orchestrator.bench.machine();
        let minor = machine.minor("vg", PVC).unwrap();
        machine.write_device(minor, 0, &vec![7; 4 * EXTENT - EXTENT / 2]).unwrap();
        drop(machine);
        orchestrator.bench.hang_effects_with(None);
    };
    let (answer, ()) = tokio::join!(orchestrator.once(Snapshot(SNAPSHOT, PVC)), user);
    answer.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_lvm_holds_back_for_a_moment_is_healthy() {
    let mut orchestrator = Orchestrator::new(&Bench::new(None));
    orchestrator.perform(Create(PVC, "fast", 2)).await;
    orchestrator.perform(Stage(PVC, Block)).await;
    suspend(&orchestrator, true);
    let lvm = async {
        sleep(SOON / 2).await;
        suspend(&orchestrator, false);
    };
    let (health, ()) = tokio::join!(orchestrator.node.volume_health(PVC, None), lvm);
    assert_eq!(health.unwrap(), []);
    suspend(&orchestrator, true);
    let reasons = orchestrator.node.volume_health(PVC, None).await.unwrap();
    assert_eq!(reasons.iter().map(|condition| condition.reason).collect::<Vec<_>>(), ["LogicalVolumeSuspended"]);
}

/// As lvm does, which holds a volume back.
fn suspend(orchestrator: &Orchestrator, suspended: bool) {
    let mut machine = orchestrator.bench.machine();
    let minor = machine.minor("vg", PVC).unwrap();
    machine.devices.get_mut(&minor).unwrap().suspended = suspended;
}

fn is_suspended(orchestrator: &Orchestrator) -> bool {
    let machine = orchestrator.bench.machine();
    machine.devices[&machine.minor("vg", PVC).unwrap()].suspended
}

#[tokio::test(start_paused = true)]
async fn an_lvm_that_does_not_come_back_from_holding_a_volume_is_killed_after_ten_seconds() {
    for class in ["thin", "fast"] {
        let mut orchestrator = Orchestrator::new(&Bench::new(None));
        orchestrator.perform(Create(PVC, class, 2)).await;
        orchestrator.perform(Stage(PVC, Block)).await;
        orchestrator.bench.hang_effects_with(Some(" --snapshot "));
        // Before it holds the volume back it may take as long as it likes.
        let holding = async {
            sleep(SOON * 60).await;
            suspend(&orchestrator, true);
            sleep(SOON * 8).await;
            assert!(is_suspended(&orchestrator), "{class}: lvm was killed too early");
            sleep(SOON * 5).await;
            assert!(!is_suspended(&orchestrator), "{class}: the volume waits for ever");
        };
        let (answer, ()) = tokio::join!(orchestrator.once(Snapshot(SNAPSHOT, PVC)), holding);
        let refused = answer.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        orchestrator.bench.hang_effects_with(None);
        orchestrator.once(Snapshot(SNAPSHOT, PVC)).await.unwrap();
    }
}
