//! What was answered survives the end of the power.

use quarry_trial::power_cuts::{Event, Options, run};

/// Fixed, so that a failure can be looked into; `make powercut` takes others.
const SEED: u64 = 20_261;

#[test]
fn nothing_that_was_answered_is_lost_when_the_power_ends() {
    println!("seed {SEED}");
    let options = Options { cuts: 5, seed: SEED, ..Options::default() };
    let report = run(&options).unwrap();
    assert_eq!(report.cuts, 5);
    assert!(report.volatile_cuts > 0 && report.volatile_cuts < 5, "both kinds of disks are cut off");
    // The first cut is made for it.
    let is_growth_cut_off = report.cuts_of.contains_key(&Event::GrowthOfPool);
    assert!(report.growths > 0 && is_growth_cut_off, "the pool grows, and that is cut off: {report:?}");
    assert_eq!(report.descriptions, Vec::<String>::new(), "seed {SEED}");
}
