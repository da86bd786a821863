//! What a hung, refused or late thing must not keep from the others: each volume group, each pool, each device stands for itself.

use std::sync::Arc;
use std::time::Duration;

use quarry::csi::v1;
use quarry::csi::v1::controller_server::Controller as _;
use quarry::lvm::names::{member_name, snapshot_name};
use quarry::node::controller_service::ControllerService;
use tokio::time::sleep;
use tonic::{Code, Request};

use crate::call::Call::{Copy, Create, Delete, DeleteSnapshot, GroupSnapshot, Grow, Publish, Snapshot, Stage, Unstage};
use crate::call::From;
use crate::call::Use::Block;
use crate::disk::Survivors;
use crate::disk_format::EXTENT;
use crate::lvm::Message;
use crate::machine::Machine;
use crate::orchestrator::Orchestrator;
use crate::seat::Bench;

const PVC: &str = "pvc-1";
const OTHER: &str = "pvc-2";
const POOL: &str = "quarry-thin";
const GROUP: &str = "groupsnapshot-1";
const BOTH: &[&str] = &[PVC, OTHER];

fn orchestrator() -> Orchestrator {
    Orchestrator::new(&Bench::new(None))
}

/// A volume in each of the two volume groups, both active.
async fn in_both_groups(classes: [&'static str; 2]) -> Orchestrator {
    let mut orchestrator = orchestrator();
    for (name, class) in [PVC, OTHER].into_iter().zip(classes) {
        orchestrator.perform(Create(name, class, 2)).await;
        orchestrator.perform(Stage(name, Block)).await;
    }
    orchestrator
}

fn is_suspended(orchestrator: &Orchestrator, group: &str, name: &str) -> bool {
    let machine = orchestrator.bench.machine();
    machine.devices[&machine.minor(group, name).unwrap()].suspended
}

fn write(orchestrator: &Orchestrator, group: &str, name: &str, bytes: std::ops::Range<usize>) {
    let mut machine = orchestrator.bench.machine();
    let minor = machine.minor(group, name).unwrap();
    machine.write_device(minor, bytes.start, &vec![7; bytes.len()]).unwrap();
}

async fn capacity(orchestrator: &Orchestrator, class: &str) -> i64 {
    let controller = ControllerService { node: orchestrator.node.clone() };
    let request = v1::GetCapacityRequest {
        parameters: [("class".to_owned(), class.to_owned())].into(),
        ..v1::GetCapacityRequest::default()
    };
    controller.get_capacity(Request::new(request)).await.unwrap().into_inner().available_capacity
}

#[tokio::test(start_paused = true)]
async fn a_volume_group_whose_commands_hang_keeps_no_pool_of_another_from_being_activated() {
    let mut orchestrator = in_both_groups(["thin", "other-thin"]).await;
    orchestrator.bench.machine().lose_power(Survivors::Nothing);
    orchestrator.restart();
    orchestrator.bench.hang_effects_with(Some(" vg/quarry-thin"));
    orchestrator.start_guards();
    sleep(Duration::from_secs(5)).await;
    assert!(orchestrator.bench.machine().is_pool_active("vg-2", "other-pool"));
    assert!(!orchestrator.bench.machine().is_pool_active("vg", POOL));
    orchestrator.bench.hang_effects_with(None);
    sleep(Duration::from_secs(5)).await;
    assert!(orchestrator.bench.machine().is_pool_active("vg", POOL));
}

#[tokio::test(start_paused = true)]
async fn a_volume_group_whose_commands_hang_keeps_no_snapshot_of_another_from_growing() {
    let mut orchestrator = in_both_groups(["fast", "other"]).await;
    for (name, volume) in [("one", PVC), ("two", OTHER)] {
        orchestrator.perform(Snapshot(name, volume)).await;
    }
    orchestrator.start_guards();
    let extents =
        |group: &str, name: &str| orchestrator.bench.machine().volume(group, &snapshot_name(name)).unwrap().extents();
    let step = EXTENT * 3 / 4;
    for (start, hung, grown) in [(0, " vg/snap-one", (1, 2)), (step, " vg-2/snap-two", (3, 2))] {
        orchestrator.bench.hang_effects_with(Some(hung));
        write(&orchestrator, "vg", PVC, start..start + step);
        write(&orchestrator, "vg-2", OTHER, start..start + step);
        sleep(Duration::from_secs(5)).await;
        assert_eq!((extents("vg", "one"), extents("vg-2", "two")), grown);
        orchestrator.bench.hang_effects_with(None);
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!((extents("vg", "one"), extents("vg-2", "two")), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_grows_although_its_disk_could_not_be_read_when_snapshots_were_looked_for() {
    let mut orchestrator = in_both_groups(["fast", "other"]).await;
    orchestrator.perform(Snapshot("one", PVC)).await;
    orchestrator.start_guards();
    sleep(Duration::from_secs(50)).await;
    orchestrator.bench.break_disks(&["sda", "sdb"]);
    sleep(Duration::from_secs(20)).await;
    orchestrator.bench.break_disks(&[]);
    write(&orchestrator, "vg", PVC, 0..EXTENT * 3 / 4);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(orchestrator.bench.machine().volume("vg", &snapshot_name("one")).unwrap().extents(), 2);
}

/// The fake kernel knows of no mark, so it is loaded every minute.
#[tokio::test(start_paused = true)]
async fn a_pool_gets_its_mark_although_its_disk_could_not_be_read_when_it_was_to_be_loaded() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(Create(PVC, "thin", 2)).await;
    orchestrator.start_guards();
    sleep(Duration::from_secs(50)).await;
    orchestrator.bench.break_disks(&["sda", "sdb"]);
    orchestrator.bench.count();
    let loads = || {
        let effects = orchestrator.bench.counted();
        effects.iter().filter(|effect| effect.contains("--refresh") && effect.contains(POOL)).count()
    };
    sleep(Duration::from_secs(20)).await;
    assert_eq!(loads(), 0);
    orchestrator.bench.break_disks(&[]);
    orchestrator.bench.count();
    sleep(Duration::from_secs(15)).await;
    assert_eq!(loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_volume_group_whose_commands_hang_keeps_no_volume_of_another_held_back() {
    let orchestrator = in_both_groups(["fast", "other"]).await;
    for (group, name) in [("vg", PVC), ("vg-2", OTHER)] {
        orchestrator.bench.machine().suspend(group, name);
    }
    orchestrator.bench.hang_effects_with(Some(" vg/pvc-1"));
    orchestrator.start_reaper_after(Duration::ZERO);
    sleep(Duration::from_secs(5)).await;
    assert!(is_suspended(&orchestrator, "vg", PVC) && !is_suspended(&orchestrator, "vg-2", OTHER));
    orchestrator.bench.hang_effects_with(None);
    sleep(Duration::from_secs(5)).await;
    assert!(!is_suspended(&orchestrator, "vg", PVC));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_set_going_is_tried_again_soon() {
    let orchestrator = in_both_groups(["fast", "other"]).await;
    orchestrator.bench.machine().suspend("vg", PVC);
    orchestrator.bench.refuse_effects_with(&["--refresh"]);
    orchestrator.start_reaper_after(Duration::ZERO);
    sleep(Duration::from_secs(20)).await;
    orchestrator.bench.refuse_effects_with(&[]);
    sleep(Duration::from_secs(6)).await;
    assert!(!is_suspended(&orchestrator, "vg", PVC));
}

#[tokio::test(start_paused = true)]
async fn a_held_volume_is_set_going_however_often_that_has_to_be_tried() {
    let mut orchestrator = orchestrator();
    for name in BOTH {
        orchestrator.perform(Create(name, "thin", 2)).await;
        orchestrator.perform(Stage(name, Block)).await;
    }
    orchestrator.bench.refuse_effects_with(&["resume ", "--refresh"]);
    orchestrator.once(GroupSnapshot(GROUP, BOTH)).await.unwrap_err();
    sleep(Duration::from_secs(20)).await;
    assert!(BOTH.iter().all(|name| is_suspended(&orchestrator, "vg", name)));
    orchestrator.bench.refuse_effects_with(&["--refresh"]);
    sleep(Duration::from_secs(2)).await;
    assert!(!BOTH.iter().any(|name| is_suspended(&orchestrator, "vg", name)));
    orchestrator.bench.refuse_effects_with(&[]);
    orchestrator.perform(GroupSnapshot(GROUP, BOTH)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_cannot_be_activated_has_no_room_says_so_and_is_tried_again() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(Create(PVC, "thin", 2)).await;
    let room = capacity(&orchestrator, "thin").await;
    assert!(room > 0);
    orchestrator.bench.machine().lose_power(Survivors::Nothing);
    orchestrator.restart();
    orchestrator.bench.refuse_effects_with(&["--activate y"]);
    orchestrator.start_guards();
    sleep(Duration::from_secs(15)).await;
    let conditions = orchestrator.node.volume_health(PVC, None).await.unwrap();
    let reasons: Vec<&str> = conditions.iter().map(|condition| condition.reason).collect();
    assert_eq!(reasons, ["ThinPoolInactive"]);
    assert!(conditions[0].message.contains("planned to fail"), "{}", conditions[0].message);
    assert_eq!(capacity(&orchestrator, "thin").await, 0);
    let status = orchestrator.once(Create(OTHER, "thin", 2)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("could not be activated"), "{status}");

    orchestrator.bench.refuse_effects_with(&[]);
    sleep(Duration::from_secs(15)).await;
    assert!(orchestrator.bench.machine().is_pool_active("vg", POOL));
    assert_eq!(orchestrator.node.volume_health(PVC, None).await.unwrap(), []);
    assert_eq!(capacity(&orchestrator, "thin").await, room);
}

#[tokio::test(start_paused = true)]
async fn a_pool_in_which_a_power_cut_left_room_to_nobody_is_set_right_and_activated() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(Create(PVC, "thin", 2)).await;
    {
        let mut machine = orchestrator.bench.machine();
        machine.lose_power(Survivors::Nothing);
        let number = machine.volume("vg", POOL).unwrap().number;
        machine.pools.get_mut(&number).unwrap().has_leaks = true;
    }
    orchestrator.restart();
    orchestrator.start_guards();
    sleep(Duration::from_secs(5)).await;
    assert!(orchestrator.bench.machine().is_pool_active("vg", POOL));
    assert_eq!(orchestrator.node.volume_health(PVC, None).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_an_administrator_deactivates_stays_so() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(Create(PVC, "thin", 2)).await;
    orchestrator.start_guards();
    sleep(Duration::from_secs(5)).await;
    let number = orchestrator.bench.machine().volume("vg", POOL).unwrap().number;
    orchestrator.bench.machine().pools.get_mut(&number).unwrap().is_kept_active = false;
    sleep(Duration::from_mins(5)).await;
    assert!(!orchestrator.bench.machine().is_pool_active("vg", POOL));
    assert_eq!(orchestrator.node.volume_health(PVC, None).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_volume_in_a_full_pool_does_not_grow() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(Create(PVC, "thin", 4)).await;
    orchestrator.perform(Stage(PVC, Block)).await;
    write(&orchestrator, "vg", PVC, 0..4 * EXTENT);
    let status = orchestrator.once(Grow(PVC, 6)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("has no room for data left"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn a_reserve_that_can_never_be_full_is_not_grown_over_and_over() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(Create(PVC, "fast", 6)).await;
    orchestrator.perform(Stage(PVC, Block)).await;
    orchestrator.perform(Snapshot("one", PVC)).await;
    orchestrator.start_guards();
    let step = 256 << 10;
    for start in (0..6 * EXTENT).step_by(step) {
        write(&orchestrator, "vg", PVC, start..start + step);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(orchestrator.bench.machine().volume("vg", &snapshot_name("one")).unwrap().extents(), 7);
    sleep(Duration::from_secs(10)).await;
    orchestrator.bench.count();
    sleep(Duration::from_mins(2)).await;
    let looks = orchestrator.bench.counted().into_iter().filter(|effect| effect == "block_devices").count();
    assert!((1..=6).contains(&looks), "{looks} looks at all disks in two minutes");
}

#[tokio::test(start_paused = true)]
async fn a_group_snapshot_of_which_a_disk_comes_late_is_left_until_it_is_there() {
    let mut orchestrator = in_both_groups(["thin", "other-thin"]).await;
    orchestrator.perform(GroupSnapshot(GROUP, BOTH)).await;
    let [here, late] = [PVC, OTHER].map(|volume| member_name(GROUP, volume));
    // The power failed after the first mark was taken away, and the disk with that one comes late.
    let disk = {
        let mut machine = orchestrator.bench.machine();
        let tags = &mut machine.group_mut("vg").unwrap().volume_mut(&here).unwrap().tags;
        tags.retain(|tag| tag != "quarry.kind=snapshot" && !tag.starts_with("quarry.taken="));
        tags.push(String::from("quarry.kind=incomplete-snapshot"));
        machine.commit("vg");
        machine.disks.remove("sdc").unwrap()
    };
    orchestrator.restart();
    orchestrator.start_reaper_after(Duration::ZERO);
    sleep(Duration::from_mins(3)).await;
    assert!(orchestrator.bench.machine().volume("vg", &here).unwrap().has_tag("quarry.kind=incomplete-snapshot"));
    let status = orchestrator.once(GroupSnapshot(GROUP, BOTH)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");

    orchestrator.bench.machine().disks.insert(String::from("sdc"), disk);
    sleep(Duration::from_mins(3)).await;
    for (group, member) in [("vg", here), ("vg-2", late)] {
        assert!(orchestrator.bench.machine().volume(group, &member).unwrap().has_tag("quarry.kind=snapshot"));
    }
    orchestrator.perform(GroupSnapshot(GROUP, BOTH)).await;
}

/// That lvm died after the pool had counted the making of the thin volume, and before it noted so.
fn forget_that_it_was_made(orchestrator: &Orchestrator, name: &str, origin: Option<&str>) {
    let mut machine = orchestrator.bench.machine();
    let number = |machine: &Machine, name: &str| machine.volume("vg", name).unwrap().thin().unwrap().device_id;
    let (device, origin) = (number(&machine, name), origin.map(|origin| number(&machine, origin)));
    let pool = machine.group_mut("vg").unwrap().pool_mut(POOL).unwrap();
    pool.messages.push(Message::Create { volume: name.to_owned(), device, origin });
    assert!(machine.commit("vg"));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_thin_volume_that_its_pool_has_forgotten_is_never_taken_for_one() {
    let kept = snapshot_name("one");
    let remade = [(kept.as_str(), Some(PVC), Snapshot("one", PVC)), (OTHER, None, Create(OTHER, "thin", 2))];
    for (name, origin, make) in remade {
        let mut orchestrator = orchestrator();
        orchestrator.perform(Create(PVC, "thin", 2)).await;
        orchestrator.perform(make).await;
        forget_that_it_was_made(&orchestrator, name, origin);
        orchestrator.restart();
        orchestrator.bench.refuse_effects_with(&["lvremove"]);
        orchestrator.once(make).await.unwrap_err();
        // lvm's next command takes it for made.
        orchestrator.bench.machine().group_mut("vg").unwrap().pool_mut(POOL).unwrap().messages.clear();
        assert!(orchestrator.bench.machine().commit("vg"));
        orchestrator.once(make).await.unwrap_err();
        orchestrator.bench.refuse_effects_with(&[]);
        orchestrator.once(make).await.unwrap();
        let machine = orchestrator.bench.machine();
        let thin = machine.volume("vg", name).unwrap().thin().unwrap();
        assert!(machine.pool_of("vg", thin).has(thin.device_id), "{name} is in no pool");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_while_the_reaper_removes_what_broke_off_makes_it_anew() {
    let mut orchestrator = orchestrator();
    orchestrator.perform(Create(PVC, "thin", 2)).await;
    orchestrator.perform(Snapshot("one", PVC)).await;
    forget_that_it_was_made(&orchestrator, &snapshot_name("one"), Some(PVC));
    orchestrator.restart();
    orchestrator.bench.hang_effects_with(Some("lvremove"));
    orchestrator.start_reaper_after(Duration::ZERO);
    sleep(Duration::from_secs(5)).await;
    let bench = Arc::clone(&orchestrator.bench);
    let released = async {
        sleep(Duration::from_secs(1)).await;
        bench.hang_effects_with(None);
    };
    let (made, ()) = tokio::join!(orchestrator.once(Snapshot("one", PVC)), released);
    made.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_raw_device_whose_user_comes_while_its_snapshot_is_copied_stays_when_the_copy_is_whole() {
    let stays = [Stage(PVC, Block)].as_slice();
    for (calls, is_kept) in [(stays, true), (&[], false), (&[Stage(PVC, Block), Unstage(PVC)], false)] {
        let mut orchestrator = orchestrator();
        for call in [Create(PVC, "fast", 2), Stage(PVC, Block), Snapshot("one", PVC), Unstage(PVC)] {
            orchestrator.perform(call).await;
        }
        orchestrator.bench.hang_effects_with(Some("copy "));
        let bench = Arc::clone(&orchestrator.bench);
        let is_active = || bench.machine().minor("vg", PVC).is_some();
        assert!(!is_active());
        let user = async {
            sleep(Duration::from_secs(5)).await;
            assert!(is_active());
            let early = orchestrator.once(Publish(PVC, "early", Block)).await.unwrap_err();
            assert_eq!(early.code(), Code::FailedPrecondition, "{early}");
            for call in calls {
                orchestrator.once(*call).await.unwrap();
            }
            bench.hang_effects_with(None);
        };
        let (made, ()) = tokio::join!(orchestrator.once(Copy(OTHER, "fast", 2, From::Snapshot("one"))), user);
        made.unwrap();
        assert_eq!(is_active(), is_kept, "{calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thick_volume_grows_once_its_deleted_snapshot_is_parted_from_it_whatever_else_is_wiped() {
    let mut orchestrator = orchestrator();
    for call in [Create(PVC, "fast", 2), Stage(PVC, Block), Snapshot("one", PVC)] {
        orchestrator.perform(call).await;
    }
    for other in [OTHER, "pvc-3", "pvc-4"] {
        orchestrator.perform(Create(other, "fast", 1)).await;
        orchestrator.perform(Delete(other)).await;
    }
    orchestrator.bench.hang_effects_with(Some("zero Stretch"));
    orchestrator.start_reaper_after(Duration::ZERO);
    sleep(Duration::from_secs(5)).await;
    let status = orchestrator.once(Grow(PVC, 3)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    orchestrator.perform(DeleteSnapshot("one")).await;
    let status = orchestrator.once(Grow(PVC, 3)).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "{status}");
    sleep(Duration::from_secs(10)).await;
    orchestrator.once(Grow(PVC, 3)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_power_cut_left_in_a_pool_uncounted_is_in_the_way_of_no_call_from_the_first_on() {
    let first = [
        Create(OTHER, "thin", 2),
        Snapshot("two", PVC),
        Snapshot("one", PVC),
        Grow(PVC, 3),
        DeleteSnapshot("older"),
        GroupSnapshot(GROUP, &[PVC]),
    ];
    for call in first {
        let mut orchestrator = orchestrator();
        for call in [Create(PVC, "thin", 2), Snapshot("older", PVC), Snapshot("one", PVC)] {
            orchestrator.perform(call).await;
        }
        forget_that_it_was_made(&orchestrator, &snapshot_name("one"), Some(PVC));
        {
            let mut machine = orchestrator.bench.machine();
            let number = machine.volume("vg", POOL).unwrap().number;
            machine.pools.get_mut(&number).unwrap().uncount();
            machine.lose_power(Survivors::Metadata);
        }
        orchestrator.restart();
        orchestrator.once(call).await.unwrap_or_else(|status| panic!("{call:?}: {status}"));
    }
}
