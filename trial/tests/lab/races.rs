//! Many clients at once get only answers that one after the other could have got.

use quarry_trial::races::{Options, run};

const SEED: u64 = 20_262;

#[test]
fn sixty_four_clients_on_eight_volumes_get_no_illegal_answer_and_leave_nothing() {
    println!("seed {SEED}");
    let report = run(&Options { calls: 1_000, seed: SEED, ..Options::default() }).unwrap();
    let made = report.answers.get("Create Ok").copied().unwrap_or_default();
    assert!(report.calls > 900 && made > 0, "{report:?}");
    assert_eq!(report.violations, Vec::<String>::new(), "seed {SEED}");
}
