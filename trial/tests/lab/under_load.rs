//! A snapshot of what is written to all the time is whole, and a state that it was in.

use quarry_trial::under_load::{LAYOUTS, Options, run};

/// As few as show that each file system is done right at all, thick and thin; by hand there are 200.
const SNAPSHOTS: u64 = 3;

#[test]
fn snapshots_under_load_are_whole_and_a_state_that_their_source_was_in() {
    let file_systems = ["ext4", "xfs", "btrfs"].map(str::to_owned).to_vec();
    let layouts = LAYOUTS.map(str::to_owned).to_vec();
    let reports = run(&Options { snapshots: SNAPSHOTS, file_systems, layouts, output: None }).unwrap();
    for report in &reports {
        assert_eq!(report.violations, Vec::<String>::new(), "{report:?}");
        assert!(report.snapshots == SNAPSHOTS && report.verified > 0, "{report:?}");
    }
    assert_eq!(reports.len(), 6);
}
