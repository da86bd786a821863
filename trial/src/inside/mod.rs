//! The half of the trials that runs on the machine, as the node's client.

pub mod kind;
pub mod leftovers;
pub mod power;
pub mod races;

use std::path::PathBuf;

use anyhow::Result;

/// What the machine's half can do.
#[derive(Debug, clap::Subcommand)]
pub enum Inside {
    /// Works on volumes until the power is cut
    Workload(power::workload::Options),
    /// Checks what a power cut left against the journal
    Check(power::check::Options),
    /// Many clients at random on a few volumes
    Races(races::Options),
}

/// Where the node is and what it may use; the same for all.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The node's socket
    #[arg(long, default_value = crate::site::SOCKET)]
    pub socket: String,
    /// The folder that plays kubelet's: staging and target paths lie in it
    #[arg(long)]
    pub kubelet: PathBuf,
    /// The volume group
    #[arg(long, default_value = "vg")]
    pub group: String,
}

impl Inside {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::Workload(options) => power::workload::run(options).await,
                Self::Check(options) => power::check::run(options).await,
                Self::Races(options) => races::run(options).await,
            }
        })
    }
}
