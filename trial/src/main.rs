//! `quarry-trial`: the demo and the long trials.

use clap::Parser;
use quarry_trial::{bench, inside};

/// Tries Quarry in the lab.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    trial: Trial,
}

#[derive(Debug, clap::Subcommand)]
enum Trial {
    /// Measure a node next to the bare commands
    Bench(bench::Flags),
    /// What this program does on the machine itself
    #[command(subcommand, hide = true)]
    Inside(Inside),
}

#[derive(Debug, clap::Subcommand)]
enum Inside {
    /// The measuring half of `bench`
    Bench(inside::bench::Flags),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().trial {
        Trial::Bench(flags) => bench::run(&flags),
        Trial::Inside(inside) => match inside {
            Inside::Bench(flags) => inside::bench::run(&flags),
        },
    }
}
