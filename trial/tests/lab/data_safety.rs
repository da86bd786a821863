//! What is on the disks is never lost or shown to others, whatever state volume groups and tools are in.

#[test]
fn data_survives_and_stays_private() {
    let themes = ["foreign-data", "groups", "lvm-failures", "deleting"];
    quarry_trial::checks::test("data_safety", &themes).unwrap();
}
