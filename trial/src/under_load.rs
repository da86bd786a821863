//! Snapshots under load, from outside: boots a machine and lets the inside half run on it for each file system and layout.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use quarry_lab::Disk;

use crate::inside::kind::POOL;
use crate::inside::under_load::Report;
use crate::site::{self, Plan, Site};

const GROUP: &str = "vg";
const DISK: &str = "pv0";
const DISK_BYTES: u64 = 4 << 30;
const LIMIT: Duration = Duration::from_hours(4);
/// There is a class of each, and of its name.
pub const LAYOUTS: [&str; 2] = ["thin", "thick"];

/// What to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many snapshots are made of each file system
    #[arg(long, default_value_t = 200)]
    pub snapshots: u64,
    /// File systems of the source
    #[arg(long, value_delimiter = ',', default_values = ["ext4", "xfs", "btrfs"])]
    pub file_systems: Vec<String>,
    /// Layouts of the source and its copies
    #[arg(long, value_delimiter = ',', default_values = LAYOUTS, value_parser = LAYOUTS)]
    pub layouts: Vec<String>,
    /// Where the result is written
    #[arg(long)]
    pub output: Option<PathBuf>,
}

impl Options {
    /// The file system and the layout of each source.
    fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        let layouts = || self.layouts.iter().map(String::as_str);
        self.file_systems
            .iter()
            .flat_map(move |file_system| layouts().map(move |layout| (file_system.as_str(), layout)))
    }
}

/// Runs it; violations are in the reports.
pub fn run(options: &Options) -> Result<Vec<Report>> {
    let folder = site::target_folder()?.join(format!("under-load/{}", std::process::id()));
    let plan = Plan { disks: vec![Disk::plain(DISK, DISK_BYTES)], disk_folder: None, results: folder.clone() };
    let mut site = Site::boot(&plan)?;
    site.make_group(GROUP, DISK)?;
    let pool = format!("{{name: {POOL}, size: 2GiB, overcommit: 10}}");
    let thin = format!("- {{name: thin, volumeGroups: [{GROUP}], layout: thin, thinPool: {pool}}}");
    // Zeroes over each copy would be most of the time.
    let thick = format!("- {{name: thick, volumeGroups: [{GROUP}], wipe: none}}");
    fs::write(folder.join("classes.yaml"), format!("classes:\n{thin}\n{thick}\n"))?;
    let classes = site.shared("classes.yaml")?;
    site.start_node(&["--classes", &classes])?;
    let mut reports = Vec::new();
    for (file_system, layout) in options.sources() {
        let report = inside(&site, file_system, layout, options.snapshots)?;
        let is_good = report.violations.is_empty();
        reports.push(report);
        if !is_good {
            // What it left would be the next one's.
            eprintln!("kept for a look: {}", folder.display());
            break;
        }
    }
    if let Some(output) = &options.output {
        if let Some(parent) = output.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(output, serde_json::to_string_pretty(&reports)? + "\n")?;
    }
    if reports.iter().all(|report| report.violations.is_empty()) {
        site.stop_node()?;
        site.machine.stop()?;
        fs::remove_dir_all(&folder).context("cannot clear up")?;
    }
    Ok(reports)
}

/// One source: what came of it, told as well.
fn inside(site: &Site, file_system: &str, layout: &str, snapshots: u64) -> Result<Report> {
    let kubelet = format!("/run/kubelet-{layout}-{file_system}");
    site.shell(&format!("mkdir -p {kubelet}"))?;
    let snapshots = snapshots.to_string();
    let arguments = ["under-load", "--kubelet", &kubelet, "--group", GROUP, "--file-system", file_system];
    let command = site.inside(&arguments)?.args(["--class", layout, "--snapshots", &snapshots]).limit(LIMIT);
    let report: Report = serde_json::from_str(&site.run(&command)?.checked()?.text()).context("it printed nonsense")?;
    println!(
        "{layout} {file_system}: {} snapshots restored and checked, fio verified {} times, {} numbered writes, {} violations ({:.1} s)",
        report.snapshots,
        report.verified,
        report.writes,
        report.violations.len(),
        report.seconds
    );
    for violation in &report.violations {
        println!("  violation: {violation}");
    }
    Ok(report)
}
