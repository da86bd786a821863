//! The measuring half of `bench`: on the machine, as the node's client and as the parent of the bare commands.
//!
//! What is compared is measured in turn, one of ours and one of theirs, so that a machine that slows down slows both;
//! before each measurement whatever the last one left to do in the background is waited for.

mod calls;
mod compared;
mod machine;
mod memory;
mod processes;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use self::calls::Calls;
use crate::bench::figures::Figures;
use crate::client::Client;
use crate::site::SOCKET;

/// In this order: a bare `lvcreate` asks before it wipes what an earlier file system left on the same blocks, so those
/// that compare it come before anything is formatted.
const PHASES: [&str; 7] = ["create", "delete", "burst", "publish", "processes", "stage", "memory"];
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
    /// Only these phases
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
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
};

/// Everything that a phase needs.
struct Bench {
    calls: Calls,
    repetitions: Repetitions,
    figures: Figures,
}

/// Measures and writes the figures.
pub async fn run(flags: &Flags) -> Result<()> {
    for phase in &flags.only {
        ensure!(PHASES.contains(&phase.as_str()), "{phase} is no phase; there are: {}", PHASES.join(", "));
    }
    let figures = measure(flags).await?;
    fs::write(&flags.output, serde_json::to_vec(&figures)?)
        .with_context(|| format!("cannot write {}", flags.output.display()))
}

async fn measure(flags: &Flags) -> Result<Figures> {
    fs::create_dir_all(Path::new(FOLDER))?;
    let client = Client::connect(SOCKET).await?;
    let repetitions = if flags.quick { QUICK } else { FULL };
    let mut bench = Bench { calls: Calls::new(client), repetitions, figures: Figures::default() };
    for phase in PHASES {
        if !flags.only.is_empty() && !flags.only.iter().any(|only| only == phase) {
            continue;
        }
        println!("measuring: {phase}");
        machine::rest().await?;
        match phase {
            "create" => bench.create().await,
            "delete" => bench.delete().await,
            "publish" => bench.publish().await,
            "processes" => bench.processes().await,
            "stage" => bench.stage().await,
            "burst" => bench.burst().await,
            _ => bench.memory().await,
        }
        .with_context(|| format!("phase {phase}"))?;
    }
    Ok(bench.figures)
}
