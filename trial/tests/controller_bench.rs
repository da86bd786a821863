//! The measuring of a controller, with few nodes.

use quarry_trial::bench::controller::{Flags, measure};

#[test]
fn every_figure_is_measured_and_every_volume_listed() {
    let flags = Flags { nodes: 40, volumes_per_node: 5, calls: 100, output: "unused".into() };
    let figures = measure(&flags).unwrap();
    for key in flags.keys() {
        assert!(figures.get(&key).is_some_and(|value| value > 0.0), "{key} in {figures:?}");
    }
}
