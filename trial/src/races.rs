//! Races over volumes, their snapshots and copies, from outside: boots a machine and lets the inside half run on it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use quarry_lab::Disk;

use crate::inside::kind::{Reserves, classes_file};
use crate::inside::races::Report;
use crate::site::{self, Plan, Site};

const GROUP: &str = "vg";
const DISK: &str = "pv0";
const KINDS: &str = "ext4,thin-ext4,xfs,block,thin-block,btrfs,thin-ext4,block";
const DISK_BYTES: u64 = 8 << 30;
const LIMIT: Duration = Duration::from_hours(1);

/// What to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many calls are made in all
    #[arg(long, default_value_t = 5_000)]
    pub calls: u64,
    /// What the choices follow from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Clients at once
    #[arg(long, default_value_t = 64)]
    pub clients: u64,
    /// Where the result is written
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Kinds of the volumes, one volume each
    #[arg(long, default_value = KINDS)]
    pub kinds: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { calls: 5_000, seed: 1, clients: 64, output: None, kinds: String::from(KINDS) }
    }
}

/// Runs them; violations are in the report.
pub fn run(options: &Options) -> Result<Report> {
    let folder = site::target_folder()?.join(format!("races/{}", std::process::id()));
    let plan = Plan { disks: vec![Disk::plain(DISK, DISK_BYTES)], disk_folder: None, results: folder.clone() };
    let mut site = Site::boot(&plan)?;
    site.make_group(GROUP, DISK)?;
    fs::write(folder.join("classes.yaml"), classes_file(GROUP, Reserves::Whole))?;
    let classes = site.shared("classes.yaml")?;
    site.start_node(&["--classes", &classes])?;
    site.shell("mkdir -p /run/kubelet")?;
    let (calls, seed, clients) = (options.calls.to_string(), options.seed.to_string(), options.clients.to_string());
    let arguments = ["races", "--kubelet", "/run/kubelet", "--group", GROUP, "--calls", &calls, "--seed", &seed];
    let more = ["--clients", &clients, "--kinds", &options.kinds];
    let command = site.inside(&[&arguments[..], &more[..]].concat())?.limit(LIMIT);
    let output = site.run(&command)?.checked()?;
    let report: Report = serde_json::from_str(&output.text()).context("the races printed nonsense")?;
    site.stop_node()?;
    site.machine.stop()?;
    for violation in &report.violations {
        println!("violation: {violation}");
    }
    if report.violations.is_empty() {
        fs::remove_dir_all(&folder).context("cannot clear up")?;
    } else {
        eprintln!("kept for a look: {}", folder.display());
    }
    if let Some(output) = &options.output {
        if let Some(parent) = output.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(output, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(report)
}
