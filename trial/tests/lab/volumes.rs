//! The life of volumes on a real kernel and real LVM.

#[test]
fn volumes_live_as_the_protocol_says() {
    let themes = ["life", "users", "growth", "capacity", "listing", "health", "metrics", "commands"];
    quarry_trial::checks::test("volumes", &themes).unwrap();
}
