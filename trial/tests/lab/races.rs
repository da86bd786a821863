//! Many clients at once get only answers that one after the other could have got.

use quarry_trial::races::{Options, run};

const SEED: u64 = 20_262;

/// One volume of each; `make races` takes more.
const KINDS: &str = "ext4,thin-ext4,block,thin-block,xfs";

#[test]
fn sixty_four_clients_on_volumes_snapshots_and_copies_get_no_illegal_answer_and_leave_nothing() {
    println!("seed {SEED}");
    let report = run(&Options { calls: 500, seed: SEED, kinds: String::from(KINDS), ..Options::default() }).unwrap();
    for made in ["Create Ok", "Snapshot Ok", "Copy Ok", "Read Ok", "Write Ok"] {
        assert!(report.answers.contains_key(made), "{made} is missing: {report:?}");
    }
    assert!(report.calls > 450, "{report:?}");
    assert_eq!(report.violations, Vec::<String>::new(), "seed {SEED}");
}
