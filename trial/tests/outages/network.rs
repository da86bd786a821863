//! The network between the controller and a node is cut; both go on, and so does the API server.

use std::time::Duration;

use quarry_trial::kubernetes::manifests::{claim, on_node};

use crate::shared::{CONVERGED, WORKERS, driver_pods, installed, plain_pod, turn};
use crate::writers::Writers;

const CUT: Duration = Duration::from_secs(75);

#[test]
#[ignore = "minutes long: make test-cluster"]
fn a_node_that_the_controller_cannot_reach_gets_its_volumes_later_and_the_others_at_once() {
    let turn = turn("network-cut");
    let writers = Writers::start(&turn.space, &WORKERS);
    let controllers: Vec<String> = driver_pods("controller").into_iter().map(|(_, node)| node).collect();
    let far = WORKERS.into_iter().find(|worker| !controllers.iter().any(|node| node == worker));
    let far = far.expect("a node without a controller");
    let near = WORKERS.into_iter().filter(|worker| *worker != far);
    let numbers: Vec<&str> = near.clone().filter_map(|worker| worker.strip_prefix("worker-")).collect();
    let routes = |to: &dyn Fn(&str) -> String| {
        let lines = numbers.iter().map(|number| format!("ip route replace {}", to(number)));
        installed().on(far, &lines.collect::<Vec<_>>().join("\n")).unwrap();
    };

    routes(&|number| format!("blackhole 10.78.{number}.0/24"));
    turn.tell(&format!("{far} is cut off from the controllers"));
    for worker in WORKERS {
        let name = format!("new-{worker}");
        turn.space
            .apply(&[claim(&name, "quarry", "64Mi"), on_node(plain_pod(&name, &name, "echo here >/data/f"), worker)])
            .unwrap();
    }
    for worker in near {
        turn.space.running(&[&format!("new-{worker}")]).unwrap();
    }
    turn.tell("the others have their volumes");
    let name = format!("new-{far}");
    let said = turn.space.event(&name, "Unavailable").unwrap();
    println!("{said}");
    // Longer than anybody's time limit, so that all of them have run out and have been tried again.
    std::thread::sleep(CUT);
    assert_eq!(turn.space.field(&format!("pvc/{name}"), "{.status.phase}").unwrap(), "Pending");

    routes(&|number| format!("10.78.{number}.0/24 via 10.77.0.1{number}"));
    turn.tell("the network is whole again");
    turn.space.running(&[&name]).unwrap();
    turn.tell(&format!("{far} has its volume"));
    installed()
        .wait("one volume was made", CONVERGED, || {
            let lines = installed().on(far, "lvs --noheadings --options lv_tags")?;
            Ok(lines.lines().filter(|line| line.contains(&format!("/{name}"))).count() == 1)
        })
        .unwrap();
    writers.unharmed();
    turn.end();
}
