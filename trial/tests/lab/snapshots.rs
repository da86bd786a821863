//! Snapshots, and what is made of them, on a real kernel and real LVM.

#[test]
fn snapshots_hold_what_their_source_held() {
    quarry_trial::checks::test("snapshots", &["snapshots"]).unwrap();
}

#[test]
fn volumes_of_snapshots_and_of_volumes_hold_what_those_held() {
    quarry_trial::checks::test("restores", &["restores"]).unwrap();
}

#[test]
fn copies_hold_what_their_source_held_and_go_on_after_a_crash() {
    quarry_trial::checks::test("copies", &["copied-files", "copies"]).unwrap();
}

#[test]
fn blocks_of_a_pool_are_those_that_its_volumes_hold() {
    quarry_trial::checks::test("blocks", &["blocks", "pool-metadata", "through-controller"]).unwrap();
}

#[test]
fn snapshots_of_a_group_are_of_one_moment() {
    quarry_trial::checks::test("group-snapshots", &["group-snapshots"]).unwrap();
}

#[test]
fn pools_grow_and_tell_what_is_wrong_with_them() {
    quarry_trial::checks::test("pools", &["pools", "killed-lvm", "held-back", "judges"]).unwrap();
}

#[test]
fn pools_that_fail_are_told_of_and_come_back_as_is_documented() {
    quarry_trial::checks::test("pool-recovery", &["pool-recovery"]).unwrap();
}
