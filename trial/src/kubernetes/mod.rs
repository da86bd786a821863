//! Quarry in a real Kubernetes of the lab, installed as a user installs it: the image that `make image` makes, and
//! deploy/quarry.yaml as it is.
//!
//! The sidecars are the stock ones, built from their Go modules and put into images under their stock names. The two that
//! are not served as modules, node-driver-registrar and livenessprobe, have the project's stand-in in their places.

pub mod audit;
pub mod background;
pub mod clock;
mod images;
pub mod manifests;
mod namespace;
pub mod node_log;
mod programs;
mod snapshots;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use quarry_lab::{Cluster, ClusterOptions, Command, Disk, Worker};
use serde_json::{Value, json};

pub use self::namespace::Namespace;
pub use self::programs::Program;

/// The volume group that the manifests' class names.
pub const GROUP: &str = "quarry";
/// The namespace of the manifests.
pub const NAMESPACE: &str = "quarry";
/// What runs when the driver does, and how long it may take to.
const WORKLOADS: [&str; 2] = ["daemonset/quarry-node", "deployment/quarry-controller"];
const ROLLOUT: &str = "--timeout=180s";
/// What selects the pods of the nodes, for kubectl.
pub const NODE_PODS: &str = "--selector=app.kubernetes.io/component=node";

/// A cluster with Quarry in it.
pub struct Installed {
    /// The cluster.
    pub cluster: Cluster,
}

impl Installed {
    /// Starts a cluster of so many workers with a disk of so many bytes each, and installs Quarry.
    pub fn start(workers: u8, disk_bytes: u64) -> Result<Self> {
        let disk = Disk::plain("disk", disk_bytes);
        Self::start_with(&ClusterOptions::new().workers(workers).disk(disk).verbose())
    }

    /// Starts a cluster, makes the volume group on the disk `disk` of each worker, and installs Quarry.
    pub fn start_with(options: &ClusterOptions) -> Result<Self> {
        let archives = images::archives()?;
        let installed = Self { cluster: Cluster::start(options)? };
        for worker in installed.cluster.workers() {
            make_group(worker, GROUP, "disk")?;
        }
        for archive in &archives {
            installed.cluster.import_archive(archive)?;
        }
        installed.install()?;
        Ok(installed)
    }

    /// What whoever runs the cluster does for snapshots, once for all drivers: CRDs and snapshot-controller. Since the driver is
    /// there already, its controller starts anew: external-provisioner looks for the CRDs only then.
    pub fn install_snapshots(&self) -> Result<()> {
        self.cluster.import_archive(&snapshots::archive()?)?;
        self.kubectl(&["apply", "--filename", &snapshots::manifests()?.to_string_lossy()])?;
        self.kubectl(&["-n", NAMESPACE, "rollout", "restart", "deployment/quarry-controller"])?;
        self.rolled_out()
    }

    /// What a user does: `kubectl apply -f deploy/quarry.yaml`, and waits.
    pub fn install(&self) -> Result<()> {
        self.install_as(&manifests::of_the_driver()?)
    }

    /// The same with manifests that other values gave.
    pub fn install_as(&self, manifests: &str) -> Result<()> {
        self.cluster.apply(manifests)?;
        self.rolled_out()?;
        // The nodes of a first install get their certificates when kubelet looks at their pods again: within a minute, or
        // when a pod changes.
        self.kubectl(&["-n", NAMESPACE, "annotate", "pods", NODE_PODS, "--overwrite", "looked-at=now"]).map(drop)
    }

    /// Waits until the driver's pods run as they should.
    pub fn rolled_out(&self) -> Result<()> {
        for what in WORKLOADS {
            let waited = self.kubectl(&["-n", NAMESPACE, "rollout", "status", what, ROLLOUT]);
            waited.with_context(|| self.told())?;
        }
        Ok(())
    }

    /// Runs kubectl, which must end well; answers with what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.cluster.kubectl(arguments)?.checked()?.text())
    }

    /// `kubectl apply` of objects.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        self.cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())
    }

    /// An object as the API has it.
    pub fn object(&self, words: &[&str]) -> Result<Value> {
        let mut arguments = vec!["get", "--output=json"];
        arguments.extend(words);
        Ok(serde_json::from_str(&self.kubectl(&arguments)?)?)
    }

    /// The objects of a list as the API has it.
    pub fn list(&self, words: &[&str]) -> Result<Vec<Value>> {
        Ok(self.object(words)?["items"].as_array().cloned().unwrap_or_default())
    }

    /// The worker with that name.
    pub fn worker(&self, name: &str) -> Result<&Worker> {
        let found = self.cluster.workers().iter().find(|worker| worker.name() == name);
        found.with_context(|| format!("there is no worker {name:?}"))
    }

    /// Runs a shell script on a worker, which must end well; answers with what it printed.
    pub fn on(&self, worker: &str, script: &str) -> Result<String> {
        Ok(self.worker(worker)?.run(&Command::shell(script))?.checked()?.text())
    }

    /// The driver's pod on a worker.
    pub fn node_pod(&self, worker: &str) -> Result<String> {
        let field = format!("--field-selector=spec.nodeName={worker}");
        self.kubectl(&[
            "-n",
            NAMESPACE,
            "get",
            "pods",
            NODE_PODS,
            &field,
            "--output=jsonpath={.items[0].metadata.name}",
        ])
    }

    /// Waits until something is so; answers with how long it took.
    pub fn wait(&self, what: &str, limit: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            if is_so()? {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > limit {
                bail!("{what} not within {} s\n{}", limit.as_secs(), self.told());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What helps to find out why something did not happen.
    pub fn told(&self) -> String {
        let questions: [&[&str]; 5] = [
            &["get", "pods,pvc,pv,csistoragecapacities", "--all-namespaces", "--output=wide"],
            // An error where the cluster has no snapshots.
            &["get", "volumesnapshots,volumesnapshotcontents", "--all-namespaces", "--output=wide"],
            &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
            &["-n", NAMESPACE, "logs", "deployment/quarry-controller", "--all-containers", "--prefix", "--tail=40"],
            &[
                "-n",
                NAMESPACE,
                "logs",
                "daemonset/quarry-node",
                "--all-pods",
                "--all-containers",
                "--prefix",
                "--tail=40",
            ],
        ];
        let answer = |words: &[&str]| match self.cluster.kubectl(words) {
            Ok(output) => format!("$ kubectl {}\n{}{}\n", words.join(" "), output.text(), output.error_text()),
            Err(error) => format!("$ kubectl {}\n{error:#}\n", words.join(" ")),
        };
        questions.iter().map(|words| answer(words)).collect()
    }
}

/// Makes a volume group on a disk of a worker.
pub fn make_group(worker: &Worker, group: &str, disk: &str) -> Result<()> {
    let device = worker.device(disk)?;
    worker.run(&Command::new("vgcreate").args(["-q", group, &device]))?.checked().map(drop)
}
