//! `quarry-trial`: the demo and the long trials.

use clap::Parser;
use quarry_trial::{checks, inside, site};

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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().trial {
        Trial::Check { themes } => {
            let themes: Vec<&str> = themes.iter().map(String::as_str).collect();
            checks::run(&themes, &site::target_folder()?.join("check/by-hand")).map(drop)
        }
        Trial::Inside(inside) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            match inside {
                Inside::Check { results, themes } => runtime.block_on(inside::check::check(&themes, &results)),
            }
        }
    }
}
