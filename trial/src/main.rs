//! `quarry-trial`: the demo and the long trials.

use clap::Parser;

/// Tries Quarry in the lab.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    trial: Trial,
}

#[derive(Debug, clap::Subcommand)]
enum Trial {
    /// What this program does on the machine itself
    #[command(subcommand, hide = true)]
    Inside(Inside),
}

#[derive(Debug, clap::Subcommand)]
enum Inside {}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().trial {
        Trial::Inside(inside) => match inside {},
    }
}
