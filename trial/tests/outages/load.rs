//! Pods that come and go with their volumes on every node.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use quarry_trial::kubernetes::Namespace;
use quarry_trial::kubernetes::manifests::{claim, on_node};

use crate::shared::plain_pod;

/// Does the work while pods come and go on these nodes; each must run within some minutes, find its volume empty, and go
/// with it. Answers with how many did.
pub(crate) fn under_load(space: &Namespace<'static>, nodes: &[&str], work: impl FnOnce()) -> usize {
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for node in nodes {
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                for number in 1.. {
                    come_and_go(space, node, &format!("load-{node}-{number}"));
                    done.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let _stop = OnDrop(&stop);
        work();
    });
    done.into_inner()
}

fn come_and_go(space: &Namespace<'_>, node: &str, name: &str) {
    // A kubelet that is killed may have a second container made after the first has written.
    let mine = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let script = format!("[ ! -e /data/f ] || grep -qx {mine} /data/f; echo {mine} >/data/f; sync /data/f");
    space.apply(&[claim(name, "quarry", "64Mi"), on_node(plain_pod(name, name, &script), node)]).unwrap();
    space.running(&[name]).unwrap();
    // Not the number of its starts: a kubelet that is killed between making a container and starting it makes another one.
    let ended = "{.status.containerStatuses[0].lastState.terminated.exitCode}";
    assert_ne!(space.field(&format!("pod/{name}"), ended).unwrap(), "1", "the script of {name} failed");
    space.delete(&[&format!("pod/{name}"), &format!("pvc/{name}")]).unwrap();
}

/// Stops the load also when the work fails, else its threads would be waited for without end.
struct OnDrop<'s>(&'s AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
