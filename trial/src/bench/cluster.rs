//! `quarry-trial bench-cluster`: what a user of Kubernetes waits for, through the stock sidecars.
//!
//! The times are those of the API server's audit log: from a request that came in to an answer that went out. Bare
//! commands are timed on the same guest in turn with them.

mod burst;
mod pods;
mod volumes;

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Result, bail};
use quarry_lab::{ClusterOptions, Disk};

use super::figures::Figures;
use super::{ensure_met, publish};
use crate::kubernetes::audit::{Entry, entries};
use crate::kubernetes::{Installed, NAMESPACE, Namespace};

/// The only worker: all that is measured is on one node.
const WORKER: &str = "worker-1";
const TABLE: [&str; 7] = [
    "pvc_to_bound_p50_ms",
    "lvcreate_p50_ms",
    "burst_100_create_s",
    "pvc_delete_p50_ms",
    "pod_start_with_volume_p50_ms",
    "pod_start_without_volume_p50_ms",
    "driver_api_writes_per_volume",
];
/// How much longer than a bare `lvcreate` a claim may take, in milliseconds.
const ALLOWANCE_MS: f64 = 150.0;

/// The flags of `quarry-trial bench-cluster`.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Where the figures are written, as JSON
    #[arg(long, default_value = "target/bench/cluster.json")]
    pub output: PathBuf,
    /// Few repetitions: to see whether it works, not for figures
    #[arg(long)]
    pub quick: bool,
}

/// Measures, writes the figures and prints the table; fails where one is not met.
pub fn run(flags: &Flags) -> Result<()> {
    if cfg!(debug_assertions) {
        bail!("figures of a debug build say nothing; run `make bench-cluster`");
    }
    let disk = Disk::plain("disk", 64 << 30);
    let installed = Installed::start_with(&ClusterOptions::new().workers(1).disk(disk).audit().verbose())?;
    let space = Namespace::make(&installed, "bench")?;
    let mut figures = Figures::default();
    let (volumes, pods, burst) = if flags.quick { (5, 2, 20) } else { (40, 10, 100) };

    let begun = SystemTime::now();
    let times = volumes::measure(&installed, &space, volumes)?;
    figures.time("pvc_to_bound_p50_ms", &times.to_bound);
    figures.require("pvc_to_bound_p50_ms", (times.lvcreate.median() + ALLOWANCE_MS).round());
    figures.time("lvcreate_p50_ms", &times.lvcreate);
    figures.time("pvc_delete_p50_ms", &times.delete);
    figures.time("pod_start_with_volume_p50_ms", &pods::measure(&installed, &space, pods, true)?);
    figures.time("pod_start_without_volume_p50_ms", &pods::measure(&installed, &space, pods, false)?);
    figures.count("burst_100_create_s", burst::measure(&installed, &space, burst)?, burst);
    let made = volumes + pods + burst;
    space.leave()?;

    let writes = entries(&installed.cluster)?.into_iter().filter(|entry| entry.received > begun && is_drivers(entry));
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let per_volume = writes.filter(Entry::is_write).count() as f64 / made as f64;
    figures.count("driver_api_writes_per_volume", per_volume, made);
    publish(&figures, &TABLE, &flags.output)?;
    if flags.quick { Ok(()) } else { ensure_met(&figures.unmet()) }
}

/// Whether the driver itself asked: its pods share their identity with the sidecars, which say who they are.
fn is_drivers(entry: &Entry) -> bool {
    let is_ours = entry.user.starts_with(&format!("system:serviceaccount:{NAMESPACE}:"));
    is_ours
        && !["csi-provisioner/", "csi-resizer/", "csi-snapshotter/"]
            .iter()
            .any(|sidecar| entry.agent.starts_with(sidecar))
}
