//! csi-snapshotter and the node plugin die while snapshots are taken and restored.

use quarry_trial::kubernetes::Program;
use quarry_trial::kubernetes::manifests::{SNAPSHOT, claim, claim_of, on_node, snapshot, snapshot_class};

use crate::shared::{CONVERGED, WORKERS, installed, plain_pod, turn};
use crate::writers::rest;

const COUNT: usize = 4;
const KILLS: usize = 3;
/// Enough to be copied for a while.
const FILL: &str = "dd if=/dev/urandom of=/data/bulk bs=1M count=160 2>/dev/null; sha256sum /data/bulk >/data/sum; sync; touch /data/full";

#[test]
#[ignore = "minutes long: make test-cluster"]
fn snapshots_and_restores_are_made_once_though_snapshotter_and_node_are_killed_in_the_middle() {
    installed().install_snapshots().unwrap();
    installed().apply(&[snapshot_class()]).unwrap();
    let turn = turn("snapshots-killed");
    turn.space
        .apply(&[claim("source", "quarry", "256Mi"), on_node(plain_pod("source", "source", FILL), "worker-2")])
        .unwrap();
    turn.space.running(&["source"]).unwrap();
    installed().wait("the volume is full", CONVERGED, || turn.space.can("source", "test -e /data/full")).unwrap();
    let volume = turn.space.bound("source").unwrap();
    let names: Vec<String> = (1..=COUNT).map(|number| format!("copy-{number}")).collect();
    for name in &names {
        let restored = claim_of((SNAPSHOT, name), claim(name, "quarry", "256Mi"));
        let check = plain_pod(name, name, "sha256sum -c /data/sum");
        turn.space.apply(&[snapshot(name, "source"), restored, check]).unwrap();
    }
    for _ in 0..KILLS {
        rest(4);
        for worker in WORKERS {
            for program in [Program::Snapshotter, Program::Node] {
                installed().signal(worker, program, "KILL").unwrap();
            }
        }
        turn.tell(&format!("killed, {} snapshots are there", snapshots(&volume)));
    }
    for name in &names {
        turn.space.wait(&format!("volumesnapshot/{name}"), "jsonpath={.status.readyToUse}=true").unwrap();
    }
    turn.tell("all snapshots are ready");
    turn.space.wait_all("pods", "condition=Ready", CONVERGED).unwrap();
    turn.tell("all pods run");
    for name in &names {
        assert_eq!(turn.space.node_of(name).unwrap(), "worker-2");
        turn.space.exec(name, "sha256sum -c /data/sum").unwrap();
    }
    assert_eq!(snapshots(&volume), COUNT, "one for each VolumeSnapshot");
    assert!(turn.space.can("source", "touch /data/still-written-to; sync").unwrap(), "no file system is frozen");
    turn.end();
}

/// How many snapshots of a volume there are on all workers.
fn snapshots(volume: &str) -> usize {
    let tag = format!("quarry.source={volume}");
    let on = |worker: &str| installed().on(worker, "lvs --noheadings --options lv_tags").unwrap();
    let is_one = |line: &&str| line.contains("quarry.kind=snapshot") && line.contains(&tag);
    WORKERS.iter().map(|worker| on(worker).lines().filter(is_one).count()).sum()
}
