//! `quarry-trial`: the demo and the long trials.

use std::process::ExitCode;

use clap::Parser;
use quarry_trial::inside::Inside;
use quarry_trial::{power_cuts, races};

/// Tries Quarry in the lab.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    trial: Trial,
}

#[derive(Debug, clap::Subcommand)]
enum Trial {
    /// Cut a machine's power at random moments, and check what is left
    PowerCuts(power_cuts::Options),
    /// Many clients at random on a few volumes; a model decides which answers are legal
    Races(races::Options),
    /// What this program does on the machine itself
    #[command(subcommand, hide = true)]
    Inside(Inside),
}

fn main() -> anyhow::Result<ExitCode> {
    Ok(match Arguments::parse().trial {
        Trial::PowerCuts(options) => {
            let report = power_cuts::run(&options)?;
            println!("{} cuts, {} violations, seed {}", report.cuts, report.violations, report.seed);
            ExitCode::from(u8::from(report.violations > 0))
        }
        Trial::Races(options) => {
            let report = races::run(&options)?;
            println!("{} calls, {} violations, seed {}", report.calls, report.violations.len(), report.seed);
            ExitCode::from(u8::from(!report.violations.is_empty()))
        }
        Trial::Inside(inside) => {
            inside.run()?;
            ExitCode::SUCCESS
        }
    })
}
