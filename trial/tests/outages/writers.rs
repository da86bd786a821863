//! Pods that never stop writing to their volumes, and what they say afterwards.

use std::time::Duration;

use quarry_trial::kubernetes::Namespace;
use quarry_trial::kubernetes::manifests::{claim, on_node, pod};

use crate::shared::{CONVERGED, installed};

/// A line with its number and the machine's time every 100 ms, synced before the next. A write that fails ends the
/// container, so one that was never started again has written all the time.
const SCRIPT: &str = "
trap 'exit 0' TERM
number=$(tail -n 1 /data/log 2>/dev/null | cut -d' ' -f1)
while :; do
    number=$((number + 1))
    read now rest </proc/uptime
    echo $number $now >>/data/log
    sync /data/log
    sleep 0.1
done";
/// No pause of a writer may be longer. A busy machine makes some seconds of itself.
const PAUSE: f64 = 15.0;

/// A writer on each of some nodes.
pub(crate) struct Writers<'s> {
    space: &'s Namespace<'static>,
    nodes: Vec<String>,
}

impl<'s> Writers<'s> {
    /// Starts them and waits until they write.
    pub(crate) fn start(space: &'s Namespace<'static>, nodes: &[&str]) -> Self {
        for node in nodes {
            let pod = on_node(pod(&name(node), &name(node), SCRIPT), node);
            space.apply(&[claim(&name(node), "quarry", "64Mi"), pod]).unwrap();
        }
        let writers = Self { space, nodes: nodes.iter().map(|node| (*node).to_owned()).collect() };
        for node in nodes {
            space.running(&[&name(node)]).unwrap();
            writers.goes_on(node);
        }
        writers
    }

    /// The number of the last line that is synced for sure.
    pub(crate) fn synced(&self, node: &str) -> usize {
        // The next line is written only after it.
        self.log(node).len() - 1
    }

    /// Waits until it has written more than now.
    pub(crate) fn goes_on(&self, node: &str) {
        let last = || self.space.exec(&name(node), "tail -n 1 /data/log 2>/dev/null || true");
        let writes = format!("the writer on {node} writes");
        let mut before = None;
        // A kubelet that has only just been started answers with an error.
        let goes_on = || {
            let Ok(now) = last() else { return Ok(false) };
            let first = before.get_or_insert_with(|| now.clone());
            Ok(now != *first)
        };
        installed().wait(&writes, CONVERGED, goes_on).unwrap();
    }

    /// None of them was started again, has failed to write, or has paused; all go on.
    pub(crate) fn unharmed(&self) {
        for node in &self.nodes {
            let starts = "{.status.containerStatuses[0].restartCount}";
            assert_eq!(self.space.field(&format!("pod/{}", name(node)), starts).unwrap(), "0", "on {node}");
            self.goes_on(node);
            let log = self.log(node);
            let pause = log.windows(2).map(|pair| pair[1].1 - pair[0].1).fold(0.0, f64::max);
            println!("          {} lines of the writer on {node}, the longest pause {pause:.1} s", log.len());
            assert!(pause < PAUSE, "the writer on {node} paused for {pause} s");
        }
    }

    /// Its numbers, one after the other without a gap, and their times.
    pub(crate) fn log(&self, node: &str) -> Vec<(usize, f64)> {
        let text = self.space.exec(&name(node), "cat /data/log").unwrap();
        let line = |line: &str| {
            let (number, time) = line.split_once(' ')?;
            Some((number.parse().ok()?, time.parse().ok()?))
        };
        let log: Vec<(usize, f64)> =
            text.lines().map(|text| line(text).unwrap_or_else(|| panic!("{text:?} on {node}"))).collect();
        for (index, (number, _)) in log.iter().enumerate() {
            assert_eq!(*number, index + 1, "a line of the writer on {node} is missing");
        }
        log
    }

    /// The worker's folder with a writer's volume.
    pub(crate) fn folder(&self, node: &str) -> String {
        crate::shared::mount_of(self.space, &name(node), &name(node))
    }
}

/// Of the pod and its claim.
pub(crate) fn name(node: &str) -> String {
    format!("writer-{node}")
}

/// Does something for some time while nobody asks.
pub(crate) fn rest(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}
