//! `quarry-trial bench`: the figures of a node, next to the bare commands in the same guest and the same run.
//!
//! This half boots the machine and prints the table; [`crate::inside::bench`] measures on the machine. Those of a
//! controller with thousands of nodes need no machine: [`controller`].

pub mod cluster;
pub mod controller;
mod disk_folder;
pub mod figures;
pub mod processor;
pub mod samples;
pub mod suites;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use quarry_lab::Disk;

use self::disk_folder::DiskFolder;
use self::figures::Figures;
use self::processor::Processors;
use self::suites::{FILES, SUITES, Suite};
use crate::site::{Plan, Site};

/// The volume group on the machine.
pub const GROUP: &str = "data";
/// Where the node serves its metrics.
pub const METRICS: &str = "127.0.0.1:9808";
/// What the other half writes.
const MEASURED: &str = "measured.json";
/// Sparse: it takes from this machine only what is written.
const DISK_BYTES: u64 = 1 << 40;
/// All phases of a suite together take about ten minutes; a machine in a bad hour takes longer.
const LIMIT: Duration = Duration::from_hours(1);

/// The flags of `quarry-trial bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// The folder that the figures are written to, as JSON: node.json and thin.json
    #[arg(long, default_value = "target/bench")]
    pub output: PathBuf,
    /// Few repetitions and little data: to see whether it works, not for figures
    #[arg(long)]
    pub quick: bool,
    /// Only these phases, such as create,thin-create
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
}

impl Flags {
    fn phases(&self, suite: &Suite) -> Vec<&'static str> {
        let is_wanted = |phase: &&str| self.only.is_empty() || self.only.iter().any(|only| only == phase);
        suite.phases.iter().copied().filter(is_wanted).collect()
    }
}

/// Measures, writes the figures and prints the tables; fails where a figure is not met.
pub fn run(flags: &Flags) -> Result<()> {
    if cfg!(debug_assertions) {
        bail!("figures of a debug build say nothing; run `make bench`");
    }
    let all = || SUITES.iter().flat_map(|suite| suite.phases);
    for phase in &flags.only {
        let is_known = all().any(|known| known == phase);
        ensure!(is_known, "{phase} is no phase; there are: {}", all().copied().collect::<Vec<_>>().join(", "));
    }
    let (processors, mut unmet) = (Processors::allowed()?, Vec::new());
    for file in FILES {
        let (mut figures, mut keys) = (Figures::default(), Vec::<&str>::new());
        for suite in SUITES.iter().filter(|suite| suite.file == file && !flags.phases(suite).is_empty()) {
            processors.keep_to(suite.processors)?;
            figures.extend(measure(suite, flags)?);
            keys.extend(suite.figures);
        }
        if !keys.is_empty() {
            publish(&figures, &keys, &flags.output.join(format!("{file}.json")))?;
        }
        unmet.extend(figures.unmet());
    }
    if flags.quick { Ok(()) } else { ensure_met(&unmet) }
}

/// The figures of a suite.
pub fn measure(suite: &Suite, flags: &Flags) -> Result<Figures> {
    let (folder, results) = (DiskFolder::make()?, flags.output.join(suite.name));
    let plan = Plan {
        disks: vec![Disk::plain("pv0", DISK_BYTES)],
        disk_folder: Some(folder.path().to_owned()),
        results: results.clone(),
    };
    let mut site = Site::boot(&plan)?;
    let device = site.machine.device("pv0")?;
    site.shell(&format!("pvcreate -q {} {device} && vgcreate -q {GROUP} {device}", suite.disk_options))?;
    fs::write(results.join("classes.yaml"), suite.classes).context("cannot write the classes file")?;
    site.start_node(&["--classes", &site.shared("classes.yaml")?, "--metrics", METRICS])?;

    let (output, phases) = (site.shared(MEASURED)?, flags.phases(suite).join(","));
    let mut arguments = vec!["bench", "--output", &output, "--phases", &phases];
    if flags.quick {
        arguments.push("--quick");
    }
    site.run(&site.inside(&arguments)?.limit(LIMIT).streamed())?.checked()?;
    site.stop_node()?;

    let measured = fs::read(results.join(MEASURED)).context("nothing was measured")?;
    fs::remove_file(results.join(MEASURED))?;
    Ok(serde_json::from_slice(&measured)?)
}

/// Writes the figures and prints their table.
fn publish<K: AsRef<str>>(figures: &Figures, keys: &[K], output: &Path) -> Result<()> {
    fs::write(output, serde_json::to_vec_pretty(figures)?)
        .with_context(|| format!("cannot write {}", output.display()))?;
    println!("\n{}", figures.table(keys));
    println!("written to {}", output.display());
    Ok(())
}

fn ensure_met(unmet: &[String]) -> Result<()> {
    ensure!(unmet.is_empty(), "not met: {}", unmet.join(", "));
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
