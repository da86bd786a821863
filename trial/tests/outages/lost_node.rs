//! A node is gone for good, as far as the cluster can tell; later it turns up again.

use std::time::Duration;

use quarry_trial::kubernetes::manifests::{claim, of_the_driver, on_node};

use crate::shared::{CONVERGED, installed, plain_pod, step, turn};
use crate::writers::Writers;

const LOST: &str = "worker-3";

#[test]
#[ignore = "minutes long: make test-cluster"]
fn the_volumes_of_a_lost_node_can_be_deleted_and_are_untouched_when_it_turns_up_again() {
    let turn = turn("node-lost");
    let writers = Writers::start(&turn.space, &["worker-1", "worker-2"]);
    let manifests = of_the_driver().unwrap();
    let sooner = manifests.replace("--lost-node-after=300", "--lost-node-after=20");
    assert_ne!(sooner, manifests);
    installed().cluster.apply(&sooner).unwrap();
    installed().rolled_out().unwrap();
    let pod = on_node(plain_pod("main", "data", "echo precious >/data/f; sync"), LOST);
    turn.space.apply(&[claim("data", "quarry", "64Mi"), pod]).unwrap();
    turn.space.running(&["main"]).unwrap();
    let volume = turn.space.bound("data").unwrap();

    installed().worker(LOST).unwrap().cut_power().unwrap();
    installed().cluster.wait_ready(LOST, false, CONVERGED).unwrap();
    turn.tell("the node is away");
    turn.space.kubectl(&["delete", "pod", "main", "--force", "--grace-period=0"]).unwrap();
    turn.space.kubectl(&["delete", "pvc", "data"]).unwrap();
    std::thread::sleep(Duration::from_secs(30));
    let object = format!("pv/{volume}");
    let phase = installed().kubectl(&["get", &object, "--output=jsonpath={.status.phase}"]).unwrap();
    assert!(phase == "Released" || phase == "Failed", "while it is only away its volumes stay: {phase}");

    installed().kubectl(&["delete", "node", LOST]).unwrap();
    turn.tell("the node is deleted");
    installed().kubectl(&["wait", "--for=delete", &object, "--timeout=300s"]).unwrap();
    turn.tell("its volume is gone from the API");

    installed().worker(LOST).unwrap().boot().unwrap();
    installed().cluster.wait_ready(LOST, true, CONVERGED).unwrap();
    installed().rolled_out().unwrap();
    turn.tell("it is a node again");
    let kept = installed().on(LOST, &format!(
        "lvchange -ay quarry/{volume}; mount /dev/quarry/{volume} /mnt; cat /mnt/f; umount /mnt; lvchange -an quarry/{volume}"
    ));
    assert_eq!(kept.unwrap(), "precious");
    // It serves as before, and what nobody names any more is removed by hand.
    let next = on_node(plain_pod("next", "next", "echo next >/data/f"), LOST);
    turn.space.apply(&[claim("next", "quarry", "64Mi"), next]).unwrap();
    turn.space.running(&["next"]).unwrap();
    turn.tell("it has a new volume");
    println!("{}", step(LOST, &format!("delete {LOST}/{volume}")).unwrap());
    writers.unharmed();
    installed().install().unwrap();
    turn.end();
}
