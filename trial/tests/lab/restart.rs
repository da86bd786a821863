//! The node dies, ends, or has an lvm that hangs.

#[test]
fn a_node_that_dies_or_waits_loses_nothing() {
    quarry_trial::checks::test("restart", &["restart", "hung-lvm"]).unwrap();
}
