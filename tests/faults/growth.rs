//! What grows by itself: the room of thick snapshots, and thin pools.

use crate::call::Call::{self, Create, Fill, FillMetadata, Overfill, Publish, Snapshot, Stage, Write};
use crate::call::Use::Block;
use crate::enumeration::Scenario;

const PVC: &str = "pvc-1";
const SNAPSHOT: &str = "snapshot-00000000-0000-4000-8000-000000000001";

/// A raw volume with a snapshot, whose user has written something.
const KEPT: &[Call] =
    &[Create(PVC, "fast", 6), Stage(PVC, Block), Publish(PVC, "one", Block), Write("one"), Snapshot(SNAPSHOT, PVC)];
/// As large as its pool.
const IN_POOL: &[Call] = &[Create(PVC, "thin", 4), Stage(PVC, Block), Publish(PVC, "one", Block), Write("one")];

fn enumerate(name: &'static str, effect: &'static str, before: &'static [Call], calls: &'static [Call]) {
    Scenario { name, before, calls, effect, is_guarded: true }.enumerate();
}

#[test]
fn the_room_of_a_thick_snapshot_grows_before_it_is_full() {
    enumerate("grow reserve", "lvextend", KEPT, &[Fill("one", 6)]);
}

#[test]
fn a_thick_snapshot_that_was_full_is_remembered_as_lost() {
    enumerate("lost snapshot", "--addtag quarry.lost", KEPT, &[Overfill("one", 20)]);
}

#[test]
fn a_pool_grows_before_its_data_is_full() {
    enumerate("grow pool", "lvextend", IN_POOL, &[Fill("one", 13)]);
}

#[test]
fn a_pool_grows_before_its_metadata_is_full() {
    enumerate("grow metadata of pool", "--poolmetadatasize", IN_POOL, &[FillMetadata(PVC, 800)]);
}
