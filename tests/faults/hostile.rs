//! Calls that meet each other, commands that hang or answer nonsense, and an admin who is at work, too.

use std::fs;
use std::time::Duration;

use quarry::csi::identity::IdentityService;
use quarry::csi::request::capability::{Access, AccessMode, Capability};
use quarry::csi::v1;
use quarry::csi::v1::controller_server::Controller as _;
use quarry::csi::v1::identity_server::Identity as _;
use quarry::node::controller_service::ControllerService;
use quarry::node::stage;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status};

use crate::call::Call::{self, Create, Delete, Publish, Stage, Unstage};
use crate::call::Use::Mount;
use crate::orchestrator::Orchestrator;
use crate::requests::id;
use crate::seat::{Bench, Spoiled};

const PVC: &str = "pvc-1";
const CREATE: Call = Create(PVC, "fast", 2);
const SOON: Duration = Duration::from_secs(1);

fn orchestrator() -> Orchestrator {
    Orchestrator::new(&Bench::new(None))
}

fn code(answer: Result<(), Status>) -> Code {
    answer.map_or_else(|status| status.code(), |()| Code::Ok)
}

fn assert_nothing_forbidden(orchestrator: &Orchestrator) {
    assert_eq!(orchestrator.bench.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_fake_of_lvm_reports_what_the_driver_reads_from_its_disks() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(CREATE).await;
    orchestrator.perform(Create("pvc-2", "other", 3)).await;
    assert_eq!(orchestrator.node.groups.compare().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn two_creates_at_once_make_one_volume() {
    let orchestrator = orchestrator();
    let (one, other) = tokio::join!(orchestrator.once(CREATE), orchestrator.once(CREATE));
    let mut codes = [code(one), code(other)];
    codes.sort_by_key(|code| *code as i32);
    assert_eq!(codes, [Code::Ok, Code::Aborted]);
    let again = tokio::join!(orchestrator.once(CREATE), orchestrator.once(CREATE));
    assert!(again.0.is_ok() || again.1.is_ok());
    let machine = orchestrator.bench.machine();
    let made = machine.group("vg").unwrap().volumes.iter().filter(|volume| volume.name == PVC).count();
    assert_eq!(made, 1);
}

#[tokio::test(start_paused = true)]
async fn volumes_of_one_group_are_made_side_by_side() {
    let orchestrator = orchestrator();
    let (one, other) =
        tokio::join!(orchestrator.once(Create("pvc-1", "fast", 7)), orchestrator.once(Create("pvc-2", "fast", 8)));
    assert_eq!((code(one), code(other)), (Code::Ok, Code::Ok));
    assert_eq!(orchestrator.bench.machine().group("vg").unwrap().free_extents(), 0);
    assert_eq!(code(orchestrator.once(Create("pvc-3", "fast", 1)).await), Code::ResourceExhausted);
}

#[tokio::test(start_paused = true)]
async fn only_one_of_two_volumes_gets_the_last_room() {
    let orchestrator = orchestrator();
    let (one, other) =
        tokio::join!(orchestrator.once(Create("pvc-1", "fast", 9)), orchestrator.once(Create("pvc-2", "fast", 9)));
    // Which of them comes first is the scheduler's affair.
    let loser = match (code(one), code(other)) {
        (Code::Ok, Code::ResourceExhausted) => "pvc-2",
        (Code::ResourceExhausted, Code::Ok) => "pvc-1",
        codes => panic!("one of them must get the room: {codes:?}"),
    };
    assert!(orchestrator.bench.machine().volume("vg", loser).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_hung_command_holds_up_its_own_volume_and_group_only() {
    let orchestrator = orchestrator();
    orchestrator.bench.hang_effects_with(Some("--name pvc-1 "));
    // The caller's deadline passes; the command goes on, and so does the lock.
    assert!(timeout(SOON, orchestrator.once(CREATE)).await.is_err());
    assert_eq!(code(timeout(SOON, orchestrator.once(CREATE)).await.unwrap()), Code::Aborted);
    assert_eq!(code(timeout(SOON, orchestrator.once(Delete(PVC))).await.unwrap()), Code::Aborted);

    let other_group = timeout(SOON, orchestrator.once(Create("pvc-2", "other", 2))).await;
    assert_eq!(code(other_group.unwrap()), Code::Ok);
    let probe = IdentityService { driver: "lvm.quarry.storage".into() };
    let probe = timeout(SOON, probe.probe(Request::new(v1::ProbeRequest {}))).await.unwrap().unwrap();
    assert_ne!(probe.into_inner().ready, Some(false));
    let controller = ControllerService { node: orchestrator.node.clone() };
    let capacity = timeout(SOON, controller.get_capacity(Request::new(v1::GetCapacityRequest::default())));
    assert_eq!(capacity.await.unwrap().unwrap().into_inner().available_capacity, (15 * 4) << 20);
    let list = timeout(SOON, controller.list_volumes(Request::new(v1::ListVolumesRequest::default()))).await;
    assert_eq!(list.unwrap().unwrap().into_inner().entries.len(), 1);

    orchestrator.bench.hang_effects_with(None);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(code(orchestrator.once(CREATE).await), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn an_unusable_lvm_is_told_in_clear_words() {
    for (how, words) in [
        (Spoiled::Missing, "lvm is not installed on this node"),
        (Spoiled::Killed, "failed with a signal"),
        (Spoiled::Nonsense, "lvcreate ended well, but vg/pvc-1 is not there"),
    ] {
        let orchestrator = orchestrator();
        orchestrator.bench.spoil_lvm(Some(how));
        let status = orchestrator.once(CREATE).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains(words), "{how:?}: {status}");
        orchestrator.bench.spoil_lvm(None);
        assert_eq!(code(orchestrator.once(CREATE).await), Code::Ok);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unusable_report_of_lvm_is_told_in_clear_words() {
    for (how, words) in [
        (Spoiled::Missing, "lvm is not installed on this node"),
        (Spoiled::Killed, "failed with a signal"),
        (Spoiled::Nonsense, "printed something unexpected"),
    ] {
        let orchestrator = orchestrator();
        orchestrator.bench.spoil_lvm(Some(how));
        let message = orchestrator.node.groups.compare().await.unwrap_err().to_string();
        assert!(message.contains(words), "{how:?}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_admin_who_takes_the_room_meanwhile_leaves_a_clear_answer() {
    let orchestrator = orchestrator();
    orchestrator.bench.hang_effects_with(Some("lvcreate"));
    let admin = async {
        sleep(SOON).await;
        orchestrator.bench.machine().make_volume("vg", "admins-new", 14, &[]).unwrap();
        orchestrator.bench.hang_effects_with(None);
    };
    let (answer, ()) = tokio::join!(orchestrator.once(CREATE), admin);
    assert_eq!(code(answer), Code::ResourceExhausted);
    assert_eq!(code(orchestrator.once(CREATE).await), Code::ResourceExhausted);
    assert!(orchestrator.bench.machine().volume("vg", PVC).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_volume_without_our_tags_is_never_touched() {
    let orchestrator = orchestrator();
    let before = orchestrator.bench.machine().group("vg").unwrap().clone();
    assert_eq!(code(orchestrator.once(Create("admins", "fast", 1)).await), Code::AlreadyExists);
    assert_eq!(code(orchestrator.once(Stage("admins", Mount)).await), Code::NotFound);
    assert_eq!(code(orchestrator.once(Delete("admins")).await), Code::Ok);
    assert_eq!(orchestrator.bench.machine().group("vg").unwrap(), &before);
    assert_nothing_forbidden(&orchestrator);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_volume_that_somebody_opens_is_removed_when_it_is_closed() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(CREATE).await;
    orchestrator.perform(Delete(PVC)).await;
    let open = |orchestrator: &Orchestrator, count| {
        let mut machine = orchestrator.bench.machine();
        machine.activate("vg", PVC);
        let minor = machine.minor("vg", PVC).unwrap();
        machine.devices.get_mut(&minor).unwrap().opened = count;
    };
    open(&orchestrator, 1);
    orchestrator.start_reaper_after(Duration::ZERO);
    sleep(Duration::from_mins(5)).await;
    assert!(orchestrator.bench.machine().volume("vg", PVC).is_some());
    open(&orchestrator, 0);
    orchestrator.settle().await;
    assert!(orchestrator.bench.machine().volume("vg", PVC).is_none());
    assert_nothing_forbidden(&orchestrator);
}

#[tokio::test(start_paused = true)]
async fn a_used_volume_that_looks_blank_is_not_formatted() {
    let mut orchestrator = orchestrator();
    for call in [CREATE, Stage(PVC, Mount), Unstage(PVC)] {
        orchestrator.perform(call).await;
    }
    {
        let mut machine = orchestrator.bench.machine();
        machine.activate("vg", PVC);
        let minor = machine.minor("vg", PVC).unwrap();
        let bytes = machine.bytes_of(minor);
        machine.zero_device(minor, 0, bytes).unwrap();
    }
    let status = orchestrator.once(Stage(PVC, Mount)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("should hold ext4 but holds nothing"), "{status}");
    assert_nothing_forbidden(&orchestrator);
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_was_made_fresh_by_hand_keeps_no_tag_of_its_old_file_system() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(CREATE).await;
    let node = &orchestrator.node;
    let view = node.groups.read().await.unwrap();
    let turn = node.writer.turn("vg").await;
    node.writer.change_tags(&turn, view.group("vg").unwrap(), PVC, &["quarry.fs=xfs".into()], &[]).await.unwrap();
    drop(turn);
    let staging_path = orchestrator.staging(PVC);
    fs::create_dir_all(&staging_path).unwrap();
    let access = Access::Mount { file_system: Some(String::from("ext4")), flags: Vec::new() };
    let capability = Capability { access, mode: AccessMode::Writer };
    node.stage(stage::Stage { volume_id: id(PVC), staging_path, capability }).await.unwrap();
    let machine = orchestrator.bench.machine();
    let tags = &machine.volume("vg", PVC).unwrap().tags;
    let of_file_system: Vec<&String> = tags.iter().filter(|tag| tag.starts_with("quarry.fs=")).collect();
    assert_eq!(of_file_system, ["quarry.fs=ext4"]);
}

#[tokio::test(start_paused = true)]
async fn a_volume_in_use_is_not_deleted() {
    let mut orchestrator = orchestrator();
    for call in [CREATE, Stage(PVC, Mount), Publish(PVC, "one", Mount)] {
        orchestrator.perform(call).await;
    }
    assert_eq!(code(orchestrator.once(Delete(PVC)).await), Code::FailedPrecondition);
    assert_eq!(code(orchestrator.once(Unstage(PVC)).await), Code::FailedPrecondition);
    assert!(!orchestrator.bench.machine().volume("vg", PVC).unwrap().is_deleting());
}

#[tokio::test(start_paused = true)]
async fn on_a_dead_disk_nothing_is_believed_to_be_gone() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(CREATE).await;
    orchestrator.restart();
    orchestrator.bench.break_disks(&["sda", "sdb"]);
    for call in [CREATE, Delete(PVC), Delete("pvc-never-made"), Stage(PVC, Mount), Unstage(PVC)] {
        assert_eq!(code(orchestrator.once(call).await), Code::Unavailable, "{call:?}");
    }
    // The other group has nothing to do with it.
    assert_eq!(code(orchestrator.once(Create("pvc-2", "other", 2)).await), Code::Ok);
    orchestrator.bench.break_disks(&[]);
    assert_eq!(code(orchestrator.once(CREATE).await), Code::Ok);
    assert_eq!(code(orchestrator.once(Delete("pvc-never-made")).await), Code::Ok);
}
