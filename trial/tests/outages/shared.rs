//! The cluster that the tests share, one after the other.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quarry_lab::{ClusterOptions, Disk};
use quarry_trial::kubernetes::manifests::pod;
use quarry_trial::kubernetes::{Installed, NAMESPACE, Namespace};
use quarry_trial::site::programs_folder;
use serde_json::Value;

/// Within this everything must be as it was again. Kubernetes' own pauses before it tries again are the most of it.
pub(crate) const CONVERGED: Duration = Duration::from_mins(5);
pub(crate) const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];
/// Where workers find the programs of this build.
const PROGRAMS: &str = "/lab/build";

// Nothing drops it; the lab ends what a test leaves when the test's process ends.
static SHARED: LazyLock<Installed> = LazyLock::new(|| start().expect("a cluster with Quarry in it"));
static TURN: Mutex<()> = Mutex::new(());

/// The cluster, started by who asks first.
pub(crate) fn installed() -> &'static Installed {
    &SHARED
}

fn start() -> anyhow::Result<Installed> {
    // A disk with a cache that a power cut empties.
    let options = ClusterOptions::new().disk(Disk::volatile("disk", 16 << 30));
    Installed::start_with(&options.share(programs_folder()?, PROGRAMS).verbose())
}

/// A test's turn: the cluster is its own until it ends.
pub(crate) struct Turn {
    pub(crate) space: Namespace<'static>,
    begun: Instant,
    _guard: MutexGuard<'static, ()>,
}

/// Waits for the turn; the namespace is the test's own.
pub(crate) fn turn(namespace: &str) -> Turn {
    // A test that failed has said so already.
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let space = Namespace::make(installed(), namespace).unwrap();
    Turn { space, begun: Instant::now(), _guard: guard }
}

impl Turn {
    /// Says what was reached, and when.
    pub(crate) fn tell(&self, what: &str) {
        println!("{:6.1} s  {}: {what}", self.begun.elapsed().as_secs_f64(), self.space.name());
    }

    /// The end: everything is as it was before, and nothing of the test is left.
    pub(crate) fn end(self) {
        for worker in WORKERS {
            installed().cluster.wait_ready(worker, true, CONVERGED).unwrap();
        }
        installed().rolled_out().unwrap();
        self.tell("all is well");
        let Self { space, _guard, .. } = self;
        space.leave().unwrap();
    }
}

/// The pods of the controller or the nodes: their names and the workers they are on.
pub(crate) fn driver_pods(component: &str) -> Vec<(String, String)> {
    let selector = format!("--selector=app.kubernetes.io/component={component}");
    let pods = installed().list(&["--namespace", NAMESPACE, "pods", &selector]).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    pods.iter().map(|pod| (word(&pod["metadata"]["name"]), word(&pod["spec"]["nodeName"]))).collect()
}

/// Makes one CSI call at a node's own socket, on its worker: no API server and no kubelet has a part in it.
pub(crate) fn step(worker: &str, words: &str) -> anyhow::Result<String> {
    let socket = "ln -sfn /var/lib/kubelet/plugins/lvm.quarry.storage /run/quarry";
    installed().on(worker, &format!("{socket}; {PROGRAMS}/quarry-trial inside step {words}"))
}

/// The folder at which kubelet has a pod's volume, on the pod's worker.
pub(crate) fn mount_of(space: &Namespace<'_>, pod: &str, claim: &str) -> String {
    let uid = space.field(&format!("pod/{pod}"), "{.metadata.uid}").unwrap();
    let volume = space.bound(claim).unwrap();
    format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/{volume}/mount")
}

/// A pod that asks nobody for anything but its volume: no token of the API server's is mounted.
pub(crate) fn plain_pod(name: &str, claim: &str, script: &str) -> Value {
    let mut pod = pod(name, claim, script);
    pod["spec"]["automountServiceAccountToken"] = Value::Bool(false);
    pod
}
