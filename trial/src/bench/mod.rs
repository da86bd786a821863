//! `quarry-trial bench`: the figures of a node, next to the bare commands in the same guest and the same run.
//!
//! This half boots the machine and prints the table; [`crate::inside::bench`] measures on the machine.

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
    fs::write(&flags.output, serde_json::to_vec_pretty(&figures)?)
        .with_context(|| format!("cannot write {}", flags.output.display()))?;
    println!("\n{}", figures.table());
    println!("written to {}", flags.output.display());
    Ok(())
}

/// Bytes in MiB.
#[expect(clippy::cast_precision_loss, reason = "sizes of programs and processes are far below 2^52")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
