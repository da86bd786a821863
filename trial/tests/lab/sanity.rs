//! csi-sanity for every file system and for raw block volumes.

use quarry_trial::sanity;
use quarry_trial::site::target_folder;

#[test]
fn csi_sanity_finds_nothing_for_ext4_xfs_btrfs_and_block_thick_and_thin() {
    let outcomes = sanity::run(&target_folder().unwrap().join("sanity"), &[]).unwrap();
    for outcome in &outcomes {
        println!("csi-sanity {}: {} passed, {} skipped", outcome.name, outcome.passed, outcome.skipped.len());
    }
    for outcome in &outcomes {
        sanity::judge(outcome).unwrap();
    }
}
