//! A node loses power and comes back.

use quarry_trial::kubernetes::manifests::{claim, on_node};

use crate::shared::{CONVERGED, installed, plain_pod, turn};
use crate::writers::{Writers, name};

const CUT: &str = "worker-3";

#[test]
fn a_node_whose_power_was_cut_comes_back_with_all_that_was_synced() {
    let turn = turn("power-cut");
    let others = Writers::start(&turn.space, &["worker-1", "worker-2"]);
    let cut = Writers::start(&turn.space, &[CUT]);
    // One more is on its way when the power goes.
    let pod = on_node(plain_pod("late", "late", "echo late >>/data/f"), CUT);
    turn.space.apply(&[claim("late", "quarry", "64Mi"), pod]).unwrap();
    let synced = cut.synced(CUT);
    let worker = installed().worker(CUT).unwrap();
    worker.cut_power().unwrap();
    turn.tell(&format!("the power is cut after {synced} lines"));
    installed().cluster.wait_ready(CUT, false, CONVERGED).unwrap();
    turn.tell("it counts as away");
    worker.boot().unwrap();
    installed().cluster.wait_ready(CUT, true, CONVERGED).unwrap();
    turn.tell("it is back");

    // Until kubelet has looked at its containers it reports those from before.
    let starts = || turn.space.field(&format!("pod/{}", name(CUT)), "{.status.containerStatuses[0].restartCount}");
    installed().wait("the writer is started again", CONVERGED, || Ok(starts()? != "0")).unwrap();
    turn.space.running(&[&name(CUT), "late"]).unwrap();
    turn.tell("its pods run again");
    cut.goes_on(CUT);
    let log = cut.log(CUT);
    assert!(log.len() > synced, "{} lines of {synced} that were synced", log.len());
    // A line whose time is before that of the one before it is the first after the cut.
    let again = log.windows(2).position(|pair| pair[1].1 < pair[0].1).unwrap() + 1;
    assert!(again >= synced, "{again} lines survived of {synced} that were synced");
    turn.tell(&format!("{again} lines survived of {synced} that were known to be synced"));
    others.unharmed();
    turn.end();
}
