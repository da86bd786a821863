//! The controller dies.

use quarry_trial::kubernetes::Program;
use quarry_trial::kubernetes::manifests::claim;

use crate::shared::{CONVERGED, WORKERS, installed, plain_pod, turn};
use crate::writers::{Writers, rest};

const BURST: usize = 30;
const KILLS: usize = 3;

#[test]
#[ignore = "minutes long: make test-cluster"]
fn a_burst_of_claims_gets_one_volume_each_though_all_controllers_are_killed_in_the_middle() {
    let turn = turn("controller-killed");
    let writers = Writers::start(&turn.space, &WORKERS);
    let names: Vec<String> = (1..=BURST).map(|number| format!("burst-{number}")).collect();
    let objects = names
        .iter()
        .flat_map(|name| [claim(name, "quarry", "16Mi"), plain_pod(name, name, &format!("echo {name} >>/data/name"))]);
    turn.space.apply(&objects.collect::<Vec<_>>()).unwrap();
    turn.tell("the burst has begun");
    for _ in 0..KILLS {
        rest(2);
        for worker in WORKERS {
            for program in [Program::Controller, Program::Provisioner] {
                installed().signal(worker, program, "KILL").unwrap();
            }
        }
        turn.tell(&format!("killed, {} volumes are there", volumes(turn.space.name()).len()));
    }
    for name in &names {
        turn.space.running(&[name]).unwrap();
    }
    turn.tell("all pods run");
    for name in &names {
        assert_eq!(turn.space.exec(name, "cat /data/name").unwrap(), *name);
    }
    // One for each claim, and none that no claim has.
    let mut bound: Vec<String> = names.iter().map(|name| turn.space.bound(name).unwrap()).collect();
    bound.extend(WORKERS.iter().map(|worker| turn.space.bound(&crate::writers::name(worker)).unwrap()));
    bound.sort();
    installed()
        .wait("the volumes are those of the claims", CONVERGED, || Ok(volumes(turn.space.name()) == bound))
        .unwrap();
    writers.unharmed();
    turn.end();
}

/// The logical volumes of a namespace on all workers.
fn volumes(namespace: &str) -> Vec<String> {
    let tag = format!("quarry.pvc={namespace}/");
    let mut found = Vec::new();
    for worker in WORKERS {
        let lines = installed().on(worker, "lvs --noheadings --options lv_name,lv_tags").unwrap();
        let mine = lines.lines().filter(|line| line.contains(&tag));
        found.extend(mine.filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
    }
    found.sort();
    found
}
