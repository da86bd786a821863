//! `quarry-trial`: the demo and the long trials.

use clap::Parser;
use quarry_trial::inside::step::{self, Step};
use quarry_trial::{demo, sanity, site};

/// Tries Quarry in the lab.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    trial: Trial,
}

#[derive(Debug, clap::Subcommand)]
enum Trial {
    /// Shows a volume's whole life, step by step
    Demo,
    /// Runs csi-sanity for ext4, xfs, btrfs and block volumes; reports in target/sanity
    Sanity,
    /// What this program does on the machine itself
    #[command(subcommand, hide = true)]
    Inside(Inside),
}

#[derive(Debug, clap::Subcommand)]
enum Inside {
    /// One CSI call
    #[command(subcommand)]
    Step(Step),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().trial {
        Trial::Demo => demo::run(),
        Trial::Sanity => {
            for outcome in sanity::run(&site::target_folder()?.join("sanity"))? {
                println!("{}: {} passed, {} skipped", outcome.name, outcome.passed, outcome.skipped.len());
                sanity::judge(&outcome)?;
            }
            Ok(())
        }
        Trial::Inside(inside) => runtime()?.block_on(async {
            match inside {
                Inside::Step(step) => step::run(step).await,
            }
        }),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
