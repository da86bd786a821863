//! The measuring of thin volumes and copies, with few of them.

use quarry_trial::bench::figures::Figures;
use quarry_trial::bench::suites::SUITES;
use quarry_trial::bench::{Flags, measure};
use quarry_trial::site::target_folder;

#[test]
fn every_figure_of_thin_volumes_is_measured() {
    let flags = Flags { output: target_folder().unwrap().join("check/bench"), quick: true, only: Vec::new() };
    let mut figures = Figures::default();
    for suite in SUITES.iter().filter(|suite| suite.file == "thin") {
        figures.extend(measure(suite, &flags).unwrap());
        for key in suite.figures {
            assert!(figures.get(key).is_some_and(|value| value >= 0.0), "{key} in {figures:?}");
        }
    }
    // Whatever the machine, build and numbers: of nobody's polling lvm is started.
    assert_eq!(figures.get("lvm_processes_idle_per_min"), Some(0.0));
}
