//! Quarry in a real Kubernetes of the lab, installed as a user installs it: the image that `make image` makes, and
//! deploy/quarry.yaml as it is.
//!
//! The sidecars are the stock ones, built from their Go modules and put into images under their stock names. The two that
//! are not served as modules, node-driver-registrar and livenessprobe, have the project's stand-in in their places.

use std::path::{Path, PathBuf};
use std::process::Command as HostCommand;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quarry_lab::{Cluster, ClusterOptions, Command, Disk, Image, cache_folder};
use serde_json::Value;

use crate::site::{programs_folder, target_folder};

/// The volume group that the manifests' class names.
pub const GROUP: &str = "quarry";
/// The namespace of the manifests.
pub const NAMESPACE: &str = "quarry";
/// Where the driver's pods get their sidecars from: the name in the manifests, the program, and where it lies in the image.
const SIDECARS: [(&str, &str, &str); 4] = [
    ("csi-provisioner", "csi-provisioner", "/csi-provisioner"),
    ("csi-resizer", "csi-resizer", "/csi-resizer"),
    ("csi-node-driver-registrar", "stand-in", "/csi-node-driver-registrar"),
    ("livenessprobe", "stand-in", "/livenessprobe"),
];
const ROLLOUT: &str = "--timeout=180s";

/// A cluster with Quarry in it.
pub struct Installed {
    /// The cluster.
    pub cluster: Cluster,
}

impl Installed {
    /// Starts a cluster of so many workers with a disk of so many bytes each, and installs Quarry.
    pub fn start(workers: u8, disk_bytes: u64) -> Result<Self> {
        let image = build_image()?;
        let options = ClusterOptions::new().workers(workers).disk(Disk::plain("disk", disk_bytes)).verbose();
        let installed = Self { cluster: Cluster::start(&options)? };
        for worker in installed.cluster.workers() {
            let device = worker.device("disk")?;
            worker.run(&Command::new("vgcreate").args(["-q", GROUP, &device]))?.checked()?;
        }
        installed.give_images(&image)?;
        installed.cluster.apply(&manifests()?)?;
        for what in ["daemonset/quarry-node", "deployment/quarry-controller"] {
            let waited = installed.kubectl(&["-n", NAMESPACE, "rollout", "status", what, ROLLOUT]);
            waited.with_context(|| installed.told())?;
        }
        Ok(installed)
    }

    fn give_images(&self, image: &Path) -> Result<()> {
        self.cluster.import_archive(image)?;
        let manifests = manifests()?;
        for (name, program, inside) in SIDECARS {
            let named = |line: &str| Some(line.trim().strip_prefix("image: ")?.trim_matches('"').to_owned());
            let named = manifests.lines().filter_map(named).find(|image| image.contains(&format!("/{name}:")));
            let named = named.with_context(|| format!("the manifests name no image of {name}"))?;
            let image = Image::new(named).file(self.cluster.programs().join(program), inside).entrypoint([inside]);
            self.cluster.import(&image)?;
        }
        Ok(())
    }

    /// Runs kubectl, which must end well; answers with what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.cluster.kubectl(arguments)?.checked()?.text())
    }

    /// An object as the API has it.
    pub fn object(&self, words: &[&str]) -> Result<Value> {
        let mut arguments = vec!["get", "--output=json"];
        arguments.extend(words);
        Ok(serde_json::from_str(&self.kubectl(&arguments)?)?)
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
        let questions: [&[&str]; 4] = [
            &["get", "pods,pvc,pv,csistoragecapacities", "--all-namespaces", "--output=wide"],
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

fn root_of_repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn manifests() -> Result<String> {
    std::fs::read_to_string(root_of_repository().join("deploy/quarry.yaml")).context("cannot read the manifests")
}

/// The image with the program of this build.
fn build_image() -> Result<PathBuf> {
    let (program, archive) = (programs_folder()?.join("quarry"), target_folder()?.join("quarry-image-of-trial.tar"));
    let stripped = target_folder()?.join("quarry-stripped");
    let strip =
        HostCommand::new("strip").arg("-o").arg(&stripped).arg(&program).status().context("cannot run strip")?;
    ensure!(strip.success(), "cannot strip {}", program.display());
    let mut build = HostCommand::new(root_of_repository().join("scripts/build-image"));
    let status = build.arg(cache_folder()?).arg(&stripped).arg(&archive).status().context("cannot build the image")?;
    ensure!(status.success(), "the image could not be built");
    Ok(archive)
}
