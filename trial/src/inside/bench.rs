//! The measuring half of `bench`: on the machine, as the node's client and as the parent of the bare commands.
//!
//! What is compared is measured in turn, one of ours and one of theirs, so that a machine that slows down slows both;
//! before each measurement whatever the last one left to do in the background is waited for.

mod calls;
mod changed;
mod compared;
mod copied;
mod crowd;
mod machine;
mod memory;
mod polled;
mod processes;
mod snapshot_writes;
mod thin;
mod turns;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::calls::Calls;
use crate::bench::figures::Figures;
use crate::bench::mebibytes;
use crate::client::Client;
use crate::site::{SOCKET, programs_folder};

/// Where volumes are staged and published.
const FOLDER: &str = "/run/bench";

/// The flags of the measuring half.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Where the figures are written
    #[arg(long)]
    output: PathBuf,
    /// Few repetitions
    #[arg(long)]
    quick: bool,
    /// The phases, in their order
    #[arg(long, value_delimiter = ',')]
    phases: Vec<String>,
}

/// How often everything is done.
#[derive(Debug, Clone, Copy)]
struct Repetitions {
    /// Creations and deletions of either kind.
    volumes: usize,
    publications: usize,
    stagings: usize,
    bursts: usize,
    /// Volumes made at once in a burst.
    burst: usize,
    /// Calls of each kind during which processes are counted.
    counted: usize,
    /// Volumes that exist when memory is measured.
    existing: usize,
    /// Calls before memory is measured.
    mixed: usize,
    /// Thin volumes, snapshots and copies of either kind.
    thin: usize,
    /// Bytes in a volume that is restored or copied.
    used: i64,
    copies: usize,
    /// Writes to a volume with a snapshot.
    writes: u64,
    /// Bytes of a volume of which it is told what changed.
    changed: u64,
    /// How often that is told.
    streams: usize,
    crowd: Crowd,
}

/// What there is while it is only looked.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    volumes: usize,
    snapshots: usize,
    /// Volumes that are in use.
    mounted: usize,
    /// Calls of each kind that are timed.
    calls: usize,
    /// How long processes are counted.
    polled: Duration,
}

const FULL: Repetitions = Repetitions {
    volumes: 40,
    publications: 100,
    stagings: 20,
    bursts: 3,
    burst: 100,
    counted: 20,
    existing: 500,
    mixed: 5000,
    thin: 40,
    used: 1 << 30,
    copies: 10,
    writes: 1024,
    changed: 10 << 30,
    streams: 10,
    crowd: Crowd { volumes: 500, snapshots: 2000, mounted: 100, calls: 1000, polled: Duration::from_mins(2) },
};
const QUICK: Repetitions = Repetitions {
    volumes: 8,
    publications: 20,
    stagings: 4,
    bursts: 1,
    burst: 100,
    counted: 5,
    existing: 100,
    mixed: 500,
    thin: 2,
    used: 32 << 20,
    copies: 1,
    writes: 64,
    changed: 128 << 20,
    streams: 1,
    crowd: Crowd { volumes: 40, snapshots: 80, mounted: 2, calls: 20, polled: Duration::from_secs(1) },
};

/// Everything that a phase needs.
struct Bench {
    calls: Calls,
    repetitions: Repetitions,
    figures: Figures,
}

/// Measures and writes the figures.
pub async fn run(flags: &Flags) -> Result<()> {
    let figures = measure(flags).await?;
    fs::write(&flags.output, serde_json::to_vec(&figures)?)
        .with_context(|| format!("cannot write {}", flags.output.display()))
}

async fn measure(flags: &Flags) -> Result<Figures> {
    fs::create_dir_all(Path::new(FOLDER))?;
    let client = Client::connect(SOCKET).await?;
    let repetitions = if flags.quick { QUICK } else { FULL };
    let mut bench = Bench { calls: Calls::new(client), repetitions, figures: Figures::default() };
    for phase in &flags.phases {
        println!("measuring: {phase}");
        if flags.quick {
            machine::settle().await?;
        } else {
            machine::rest().await?;
        }
        match phase.as_str() {
            "create" => bench.create().await,
            "delete" => bench.delete().await,
            "publish" => bench.publish().await,
            "processes" => bench.processes().await,
            "stage" => bench.stage().await,
            "burst" => bench.burst().await,
            "memory" => bench.memory().await,
            "binary" => bench.binary(),
            "thin-create" => bench.thin_create().await,
            "thin-snapshot" => bench.thin_snapshot().await,
            "thin-clone" => bench.thin_clone().await,
            "thin-restore" => bench.thin_restore().await,
            "copy" => bench.copy_rate().await,
            "snapshot-writes" => bench.snapshot_writes().await,
            "changed-blocks" => bench.changed_blocks().await,
            "crowd" => bench.crowd().await,
            _ => bail!("{phase} is no phase"),
        }
        .with_context(|| format!("phase {phase}"))?;
    }
    Ok(bench.figures)
}

impl Bench {
    fn binary(&mut self) -> Result<()> {
        self.figures.value("binary_mib", mebibytes(fs::metadata(programs_folder()?.join("quarry"))?.len()));
        Ok(())
    }
}
