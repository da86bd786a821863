//! Snapshots, and what is made of them, on a real kernel and real LVM.

#[test]
fn snapshots_and_copies_hold_what_their_source_held() {
    quarry_trial::checks::test("snapshots", &["snapshots", "copies", "blocks"]).unwrap();
}
