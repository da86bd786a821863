//! The driver is replaced by another version while pods come and go.

use quarry_trial::kubernetes::NAMESPACE;
use quarry_trial::kubernetes::manifests::of_the_driver;

use crate::load::under_load;
use crate::shared::{WORKERS, driver_pods, installed, turn};
use crate::writers::Writers;

const NOW: &str = "quarry.storage/quarry:0.1.0";
const NEXT: &str = "quarry.storage/quarry:0.1.1";

#[test]
#[ignore = "minutes long: make test-cluster"]
fn a_rolling_upgrade_under_load_fails_no_pod_loses_no_mount_and_sticks_no_claim() {
    let turn = turn("upgrade");
    for worker in WORKERS {
        installed().on(worker, &format!("ctr --namespace k8s.io images tag --force {NOW} {NEXT}")).unwrap();
    }
    let writers = Writers::start(&turn.space, &WORKERS);
    let next = of_the_driver().unwrap().replace(NOW, NEXT);
    let before = pods();
    let done = under_load(&turn.space, &WORKERS, || {
        installed().cluster.apply(&next).unwrap();
        installed().rolled_out().unwrap();
        turn.tell("the next version runs");
    });
    turn.tell(&format!("{done} pods came and went meanwhile"));
    assert!(pods().iter().all(|pod| !before.contains(pod)), "{:?}", pods());
    let images = ["-n", NAMESPACE, "get", "pods", "--output=jsonpath={.items[*].spec.containers[0].image}"];
    let images = installed().kubectl(&images).unwrap();
    assert!(images.split(' ').all(|image| image == NEXT), "{images}");
    writers.unharmed();

    // And back.
    let done = under_load(&turn.space, &WORKERS, || {
        installed().install().unwrap();
        turn.tell("the version before runs again");
    });
    turn.tell(&format!("{done} pods came and went meanwhile"));
    writers.unharmed();
    turn.end();
}

fn pods() -> Vec<(String, String)> {
    let mut pods = driver_pods("node");
    pods.extend(driver_pods("controller"));
    pods
}
