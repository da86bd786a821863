//! Thin volumes, snapshots and copies.

use crate::call::Call::{
    self, Copy, CopyTooLarge, Create, CreateTooLarge, Delete, DeleteGroupSnapshot, DeleteRefused, DeleteSnapshot,
    GroupSnapshot, Grow, GrowMounted, Overwrite, Publish, Snapshot, Stage, Unpublish, Unstage, Write,
};
use crate::call::From;
use crate::call::Use::{Block, Mount};
use crate::enumeration::Scenario;

const PVC: &str = "pvc-1";
const COPY: &str = "pvc-2";
const SNAPSHOT: &str = "snapshot-00000000-0000-4000-8000-000000000001";
const GROUP: &str = "groupsnapshot-00000000-0000-4000-8000-000000000001";
const SECOND: &str = "snapshot-00000000-0000-4000-8000-000000000002";

fn enumerate(name: &'static str, before: &'static [Call], calls: &'static [Call]) {
    Scenario { name, before, calls, effect: "", is_guarded: false }.enumerate();
}

/// A volume of a class with a user's data, mounted for it.
macro_rules! in_use {
    ($class:literal $(, $more:expr)*) => {
        &[Create(PVC, $class, 2), Stage(PVC, Mount), Publish(PVC, "one", Mount), Write("one") $(, $more)*]
    };
}

/// The same, which nobody uses now.
macro_rules! at_rest {
    ($class:literal $(, $more:expr)*) => {
        in_use!($class, Unpublish(PVC, "one"), Unstage(PVC) $(, $more)*)
    };
}

#[test]
fn the_first_thin_volume_makes_its_pool() {
    enumerate("first thin volume", &[], &[Create(PVC, "thin", 2)]);
}

#[test]
fn a_further_thin_volume_is_made_in_its_pool() {
    enumerate("further thin volume", &[Create(PVC, "thin", 2)], &[Create(COPY, "thin", 2)]);
}

#[test]
fn more_than_is_to_be_promised_is_refused() {
    enumerate("thin too large", &[Create(PVC, "thin", 2)], &[CreateTooLarge(COPY, "thin", 11)]);
}

#[test]
fn a_thin_volume_that_takes_all_that_may_be_promised_is_made() {
    // What a try that broke off has left takes it, too.
    enumerate("last thin volume", &[Create(PVC, "thin", 2)], &[Create(COPY, "thin", 10)]);
}

#[test]
fn a_new_thin_volume_is_formatted_and_mounted() {
    enumerate("stage thin", &[Create(PVC, "thin", 2)], &[Stage(PVC, Mount)]);
}

#[test]
fn a_new_thin_block_volume_is_emptied_and_activated() {
    enumerate("stage thin block", &[Create(PVC, "thin", 2)], &[Stage(PVC, Block)]);
}

#[test]
fn a_thin_volume_grows_under_its_user() {
    enumerate("grow thin", in_use!("thin"), &[Grow(PVC, 4), GrowMounted(PVC, "one", 4)]);
}

#[test]
fn a_thin_volume_is_deleted() {
    enumerate("delete thin", at_rest!("thin"), &[Delete(PVC)]);
}

#[test]
fn a_thin_snapshot_holds_what_its_volume_held() {
    enumerate("thin snapshot", in_use!("thin"), &[Snapshot(SNAPSHOT, PVC), Overwrite("one")]);
}

#[test]
fn a_thin_snapshot_of_a_volume_at_rest() {
    enumerate("thin snapshot at rest", at_rest!("thin"), &[Snapshot(SNAPSHOT, PVC)]);
}

#[test]
fn a_thin_snapshot_is_deleted() {
    enumerate(
        "delete thin snapshot",
        in_use!("thin", Snapshot(SNAPSHOT, PVC), Overwrite("one")),
        &[DeleteSnapshot(SNAPSHOT)],
    );
}

#[test]
fn a_thin_snapshot_is_deleted_when_its_pool_is_not_active() {
    enumerate(
        "delete thin snapshot at rest",
        at_rest!("thin", Snapshot(SNAPSHOT, PVC), Snapshot(SECOND, PVC)),
        &[DeleteSnapshot(SNAPSHOT), DeleteSnapshot(SECOND)],
    );
}

#[test]
fn a_volume_is_made_of_a_thin_snapshot_at_once() {
    enumerate(
        "thin restore",
        in_use!("thin", Snapshot(SNAPSHOT, PVC), Overwrite("one")),
        &[Copy(COPY, "thin", 2, From::Snapshot(SNAPSHOT)), Stage(COPY, Mount)],
    );
}

#[test]
fn a_larger_volume_is_made_of_a_thin_snapshot() {
    enumerate(
        "larger thin restore",
        in_use!("thin", Snapshot(SNAPSHOT, PVC), Overwrite("one")),
        &[Copy(COPY, "thin", 4, From::Snapshot(SNAPSHOT)), Stage(COPY, Mount)],
    );
}

#[test]
fn a_thin_volume_in_use_is_cloned() {
    enumerate("thin clone", in_use!("thin"), &[Copy(COPY, "thin", 2, From::Volume(PVC)), Overwrite("one")]);
}

#[test]
fn a_copy_that_the_pool_cannot_promise_leaves_nothing() {
    enumerate("thin copy too large", in_use!("thin"), &[CopyTooLarge(COPY, "thin", 11, From::Volume(PVC))]);
}

#[test]
fn a_thin_volume_is_deleted_under_its_snapshot() {
    enumerate(
        "delete thin source",
        at_rest!("thin", Snapshot(SNAPSHOT, PVC)),
        &[Delete(PVC), Copy(COPY, "thin", 2, From::Snapshot(SNAPSHOT))],
    );
}

#[test]
fn a_thin_snapshot_is_deleted_under_its_copy() {
    enumerate(
        "delete thin snapshot of copy",
        at_rest!("thin", Snapshot(SNAPSHOT, PVC), Copy(COPY, "thin", 2, From::Snapshot(SNAPSHOT))),
        &[DeleteSnapshot(SNAPSHOT), Stage(COPY, Mount)],
    );
}

#[test]
fn a_thick_snapshot_holds_what_its_volume_held() {
    enumerate("thick snapshot", in_use!("fast"), &[Snapshot(SNAPSHOT, PVC), Overwrite("one")]);
}

#[test]
fn a_thick_snapshot_that_takes_all_room_is_made() {
    enumerate("last thick snapshot", &[Create(PVC, "fast", 12)], &[Snapshot(SNAPSHOT, PVC)]);
}

#[test]
fn a_thick_snapshot_of_a_volume_at_rest() {
    enumerate("thick snapshot at rest", at_rest!("fast"), &[Snapshot(SNAPSHOT, PVC)]);
}

#[test]
fn a_thick_snapshot_is_parted_from_its_volume_and_wiped() {
    enumerate(
        "delete thick snapshot",
        in_use!("fast", Snapshot(SNAPSHOT, PVC), Overwrite("one")),
        &[DeleteSnapshot(SNAPSHOT)],
    );
}

#[test]
fn a_thick_volume_outlives_the_deletion_of_one_of_its_snapshots() {
    enumerate(
        "delete one of two thick snapshots",
        in_use!("fast", Snapshot(SNAPSHOT, PVC), Snapshot(SECOND, PVC), Overwrite("one")),
        &[DeleteSnapshot(SNAPSHOT)],
    );
}

#[test]
fn a_thick_volume_is_not_deleted_under_its_snapshot_but_after_it() {
    enumerate(
        "delete thick source",
        at_rest!("fast", Snapshot(SNAPSHOT, PVC)),
        &[DeleteRefused(PVC), DeleteSnapshot(SNAPSHOT), Delete(PVC)],
    );
}

#[test]
fn a_volume_is_copied_from_a_thick_snapshot() {
    enumerate(
        "thick restore",
        in_use!("fast", Snapshot(SNAPSHOT, PVC), Overwrite("one")),
        &[Copy(COPY, "fast", 2, From::Snapshot(SNAPSHOT)), Stage(COPY, Mount)],
    );
}

#[test]
fn a_larger_volume_is_copied_from_a_thick_snapshot() {
    enumerate(
        "larger thick restore",
        in_use!("fast", Snapshot(SNAPSHOT, PVC), Overwrite("one")),
        &[Copy(COPY, "fast", 4, From::Snapshot(SNAPSHOT)), Stage(COPY, Mount)],
    );
}

#[test]
fn a_thick_volume_in_use_is_cloned() {
    enumerate("thick clone", in_use!("fast"), &[Copy(COPY, "fast", 2, From::Volume(PVC)), Overwrite("one")]);
}

#[test]
fn a_copy_for_which_there_is_no_room_leaves_nothing() {
    enumerate("thick copy too large", in_use!("fast"), &[CopyTooLarge(COPY, "fast", 14, From::Volume(PVC))]);
}

#[test]
fn a_thick_volume_is_copied_into_a_pool() {
    enumerate("thick to thin", in_use!("fast"), &[Copy(COPY, "thin", 2, From::Volume(PVC)), Overwrite("one")]);
}

#[test]
fn a_thin_snapshot_is_copied_out_of_its_pool() {
    enumerate(
        "thin to thick",
        in_use!("thin", Snapshot(SNAPSHOT, PVC), Overwrite("one")),
        &[Copy(COPY, "fast", 2, From::Snapshot(SNAPSHOT)), Stage(COPY, Mount)],
    );
}

#[test]
fn a_thin_volume_in_use_is_copied_out_of_its_pool() {
    enumerate("thin clone to thick", in_use!("thin"), &[Copy(COPY, "fast", 3, From::Volume(PVC)), Overwrite("one")]);
}

/// A large thin volume with a file system of that class, mounted, and a copy of it.
macro_rules! copied {
    ($class:literal) => {
        &[
            Create(PVC, $class, 80),
            Stage(PVC, Mount),
            Publish(PVC, "one", Mount),
            Write("one"),
            Copy(COPY, $class, 80, From::Volume(PVC)),
        ]
    };
}

#[test]
fn a_copy_of_xfs_gets_a_uuid_of_its_own_and_is_mounted_beside_its_source() {
    enumerate("stage copy of xfs", copied!("xfs"), &[Stage(COPY, Mount)]);
}

#[test]
fn a_copy_of_btrfs_gets_a_uuid_of_its_own_and_is_mounted_beside_its_source() {
    enumerate("stage copy of btrfs", copied!("btrfs"), &[Stage(COPY, Mount)]);
}

/// Two thin volumes, of which the first is used.
const GROUPED: &[&str] = &[PVC, COPY];

#[test]
fn a_group_snapshot_is_made_of_all_volumes_or_none_and_sets_them_going() {
    enumerate(
        "group snapshot",
        in_use!("thin", Create(COPY, "thin", 2), Stage(COPY, Block)),
        &[GroupSnapshot(GROUP, GROUPED), Overwrite("one")],
    );
}

#[test]
fn a_group_snapshot_is_deleted_as_a_whole() {
    enumerate(
        "delete group snapshot",
        in_use!("thin", Create(COPY, "thin", 2), GroupSnapshot(GROUP, GROUPED), Overwrite("one")),
        &[DeleteGroupSnapshot(GROUP)],
    );
}

#[test]
fn the_whole_life_of_a_thin_volume_and_its_copies() {
    const LIFE: &[Call] = &[
        Create(PVC, "thin", 2),
        Stage(PVC, Mount),
        Publish(PVC, "one", Mount),
        Write("one"),
        Snapshot(SNAPSHOT, PVC),
        Overwrite("one"),
        Copy(COPY, "thin", 3, From::Snapshot(SNAPSHOT)),
        Snapshot(SECOND, COPY),
        DeleteSnapshot(SNAPSHOT),
        Unpublish(PVC, "one"),
        Unstage(PVC),
        Delete(PVC),
        Delete(COPY),
        DeleteSnapshot(SECOND),
    ];
    enumerate("whole life of thin copies", &[], LIFE);
}
