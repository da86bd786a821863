//! The node plugin dies, and kubelet.

use std::fs;
use std::path::Path;
use std::time::Duration;

use quarry_lab::Command;
use quarry_trial::kubernetes::manifests::{claim, on_node, storage_class};
use quarry_trial::kubernetes::{NAMESPACE, Program};
use serde_json::json;

use crate::load::under_load;
use crate::shared::{CONVERGED, WORKERS, installed, plain_pod, turn};
use crate::writers::{Writers, rest};

/// How the node ends in the middle. An upgrade, which lets it finish what it has begun, comes last: then nothing is left to
/// be formatted.
const ENDS: [End; 3] = [End::Crash, End::Crash, End::Upgrade];

#[derive(Debug, Clone, Copy)]
enum End {
    Crash,
    Upgrade,
}

#[test]
#[ignore = "minutes long: make test-cluster"]
fn volumes_are_formatted_and_mounted_though_the_node_is_killed_or_replaced_in_the_middle() {
    let turn = turn("node-killed");
    let writers = Writers::start(&turn.space, &WORKERS);
    // Writes all tables at once, so that mkfs takes its time.
    let options = json!({"mkfsOptions": "-E lazy_itable_init=0"});
    installed().apply(&[storage_class("quarry-slow", &options)]).unwrap();
    let names = ["slow-1", "slow-2", "slow-3", "slow-4"];
    for name in names {
        let pod = on_node(plain_pod(name, name, "echo once >>/data/f"), "worker-2");
        turn.space.apply(&[claim(name, "quarry-slow", "768Mi"), pod]).unwrap();
    }
    for end in ENDS {
        let formats = || {
            let pgrep = Command::new("pgrep").args(["--exact", "mkfs.ext4"]);
            let is_there = installed().worker("worker-2")?.run(&pgrep)?.status.success();
            // What a killed node had started takes a moment longer to end.
            Ok(is_there && installed().signal("worker-2", Program::Node, "0")?)
        };
        installed().wait("a volume is being formatted", Duration::from_mins(3), formats).unwrap();
        match end {
            End::Crash => assert!(installed().signal("worker-2", Program::Node, "KILL").unwrap()),
            End::Upgrade => {
                let pod = installed().node_pod("worker-2").unwrap();
                installed().kubectl(&["-n", NAMESPACE, "delete", "pod", &pod]).unwrap();
            }
        }
        turn.tell(&format!("{end:?} while it formats"));
    }
    turn.space.running(&names).unwrap();
    turn.tell("all pods run");
    for name in names {
        assert_eq!(turn.space.exec(name, "cat /data/f").unwrap(), "once");
    }
    writers.unharmed();
    turn.end();
    installed().kubectl(&["delete", "storageclass", "quarry-slow"]).unwrap();
}

#[test]
fn a_restart_of_kubelet_harms_no_pod_and_loses_no_mount() {
    let turn = turn("kubelet-restarted");
    let writers = Writers::start(&turn.space, &WORKERS);
    let done = under_load(&turn.space, &["worker-2"], || {
        for _ in 0..3 {
            rest(4);
            installed().worker("worker-2").unwrap().restart_kubelet().unwrap();
            turn.tell("kubelet was killed and started again");
        }
    });
    turn.tell(&format!("{done} pods came and went meanwhile"));
    writers.unharmed();
    turn.end();
}

/// The kubelet's part of it is kubernetes/kubernetes#121937.
#[test]
fn a_volume_that_kubelet_forgot_to_unstage_is_deleted_all_the_same() {
    let turn = turn("kubelet-forgot");
    let pod = on_node(plain_pod("forgotten", "forgotten", "echo mine >/data/f"), "worker-2");
    turn.space.apply(&[claim("forgotten", "quarry", "64Mi"), pod]).unwrap();
    turn.space.running(&["forgotten"]).unwrap();
    let worker = installed().worker("worker-2").unwrap();
    // Whoever is in the folder keeps kubelet from unstaging until it ends.
    let volume = turn.space.bound("forgotten").unwrap();
    let device = format!("/dev/mapper/quarry-{}", volume.replace('-', "--"));
    let staged = format!("findmnt --raw --noheadings --output TARGET {device} | grep -m 1 /globalmount$");
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubelet-forgot.log");
    fs::remove_file(&log).ok();
    let stays = format!("cd $({staged}); echo there; exec sleep infinity");
    let mut stays = worker.spawn(&Command::shell(stays), &log).unwrap();
    let is_there = || Ok(fs::read_to_string(&log).is_ok_and(|log| log.contains("there")));
    installed().wait("somebody is in the folder", CONVERGED, is_there).unwrap();
    turn.space.delete(&["pod/forgotten"]).unwrap();
    worker.restart_kubelet().unwrap();
    // What the old one has called is over then.
    rest(2);
    stays.kill().unwrap();
    turn.tell("kubelet was started again after it had unpublished, before it could unstage");
    installed().on("worker-2", &staged).unwrap();
    turn.end();
    let pod = installed().node_pod("worker-2").unwrap();
    let log = installed().kubectl(&["-n", NAMESPACE, "logs", &pod, "--container=quarry"]).unwrap();
    let tells = |line: &str| line.contains("kubelet did not unstage it") && line.contains(&volume);
    assert!(log.lines().any(tells), "kubelet has unstaged it after all");
}
