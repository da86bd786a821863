//! `quarry-trial bench`: the figures of a node, next to the bare commands in the same guest and the same run.
//!
//! This half boots the machine and prints the table; [`crate::inside::bench`] measures on the machine. Those of a
//! controller with thousands of nodes need no machine: [`controller`].

pub mod cluster;
pub mod controller;
mod disk_folder;
pub mod figures;
pub mod samples;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use quarry_lab::Disk;

use self::disk_folder::DiskFolder;
use self::figures::Figures;
use crate::site::{Plan, Site, programs_folder};

/// The volume group on the machine.
pub const GROUP: &str = "data";
/// Where the node serves its metrics.
pub const METRICS: &str = "127.0.0.1:9808";
/// What the other half writes.
const MEASURED: &str = "measured.json";
/// Sparse: it takes from this machine only what is written.
const DISK_BYTES: u64 = 1 << 40;
/// All phases together take about ten minutes; a machine in a bad hour takes longer.
const LIMIT: Duration = Duration::from_hours(1);
/// The figures in the order of the table.
const TABLE: [&str; 14] = [
    "create_volume_p50_ratio",
    "delete_volume_p50_ratio",
    "burst_100_create_ratio",
    "stage_fresh_ratio",
    "publish_p50_ms",
    "unpublish_p50_ms",
    "lvm_processes_publish",
    "lvm_processes_unpublish",
    "lvm_processes_stats",
    "lvm_processes_capacity",
    "lvm_processes_list",
    "rss_500_mib",
    "binary_mib",
    // Not a figure of the node but of the deletion as a whole, its work in the background included.
    "delete_until_gone_p50_ratio",
];
const CLASSES: &str = "\
classes:
- name: bench
  default: true
  volumeGroups: [data]
  wipe: none
";

/// The flags of `quarry-trial bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Where the figures are written, as JSON
    #[arg(long, default_value = "target/bench/node.json")]
    pub output: PathBuf,
    /// Few repetitions: to see whether it works, not for figures
    #[arg(long)]
    pub quick: bool,
    /// Only these phases: create, delete, burst, publish, processes, stage, memory
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
}

/// Measures, writes the figures and prints the table. Figures that are not met are no error.
pub fn run(flags: &Flags) -> Result<()> {
    if cfg!(debug_assertions) {
        bail!("figures of a debug build say nothing; run `cargo run --release --package quarry-trial -- bench`");
    }
    let results = flags.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = DiskFolder::make()?;
    let plan = Plan {
        disks: vec![Disk::plain("pv0", DISK_BYTES)],
        disk_folder: Some(folder.path().to_owned()),
        results: results.to_owned(),
    };
    let mut site = Site::boot(&plan)?;
    site.make_group(GROUP, "pv0")?;
    fs::write(results.join("classes.yaml"), CLASSES).context("cannot write the classes file")?;
    site.start_node(&["--classes", &site.shared("classes.yaml")?, "--metrics", METRICS])?;

    let output = site.shared(MEASURED)?;
    let mut arguments = vec!["bench", "--output", &output];
    if flags.quick {
        arguments.push("--quick");
    }
    let only = flags.only.join(",");
    if !only.is_empty() {
        arguments.extend(["--only", &only]);
    }
    site.run(&site.inside(&arguments)?.limit(LIMIT).streamed())?.checked()?;
    site.stop_node()?;

    let measured = fs::read(results.join(MEASURED)).context("nothing was measured")?;
    fs::remove_file(results.join(MEASURED))?;
    let mut figures: Figures = serde_json::from_slice(&measured)?;
    figures.value("binary_mib", mebibytes(fs::metadata(programs_folder()?.join("quarry"))?.len()));
    publish(&figures, &TABLE, &flags.output)
}

/// Writes the figures and prints their table.
fn publish<K: AsRef<str>>(figures: &Figures, keys: &[K], output: &Path) -> Result<()> {
    fs::write(output, serde_json::to_vec_pretty(figures)?)
        .with_context(|| format!("cannot write {}", output.display()))?;
    println!("\n{}", figures.table(keys));
    println!("written to {}", output.display());
    Ok(())
}

/// Bytes in MiB.
#[expect(clippy::cast_precision_loss, reason = "sizes of programs and processes are far below 2^52")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A line of `/proc/PID/status` in KiB, such as `VmRSS`.
pub fn kibibytes(process: u32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
    number.with_context(|| format!("no {key} in the status of process {process}"))
}
