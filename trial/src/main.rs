//! `quarry-trial`: the demo and the long trials.

use clap::Parser;
use quarry_trial::inside::check;
use quarry_trial::inside::step::{self, Step};
use quarry_trial::{checks, demo, sanity, site};

/// Tries Quarry in the lab.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    trial: Trial,
}

#[derive(Debug, clap::Subcommand)]
enum Trial {
    /// Checks what the node does with good and bad requests; all cases, or those of the themes named
    Check {
        /// `theme`, or `theme:words of a case`
        themes: Vec<String>,
    },
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
    Check {
        /// Where the node's log goes
        #[arg(long)]
        results: String,
        themes: Vec<String>,
    },
    /// One CSI call
    #[command(subcommand)]
    Step(Step),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().trial {
        Trial::Check { themes } => {
            let themes: Vec<&str> = themes.iter().map(String::as_str).collect();
            checks::run(&themes, &site::target_folder()?.join("check/by-hand")).map(drop)
        }
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
                Inside::Check { results, themes } => check::check(&themes, &results).await,
            }
        }),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
