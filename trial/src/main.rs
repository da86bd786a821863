//! `quarry-trial`: the demo and the long trials.

use anyhow::ensure;
use clap::Parser;
use quarry_trial::inside::cases::at_random;
use quarry_trial::inside::power::{check, workload};
use quarry_trial::inside::step::{self, Step};
use quarry_trial::kubernetes::background;
use quarry_trial::{bench, checks, demo, inside, power_cuts, races, sanity, site, under_load};

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
    /// Measures a node next to the bare commands; figures in target/bench
    Bench(bench::Flags),
    /// Measures what a claim and a pod wait for in Kubernetes; figures in target/bench
    BenchCluster(bench::cluster::Flags),
    /// Measures a controller with thousands of nodes; figures in target/bench
    BenchController(bench::controller::Flags),
    /// Shows a volume's whole life, step by step
    Demo,
    /// Runs csi-sanity for ext4, xfs, btrfs and block volumes, thick and thin; reports in target/sanity
    Sanity {
        /// These only, such as thin-ext4
        variants: Vec<String>,
    },
    /// Cuts a machine's power at random moments, and checks what is left
    PowerCuts(power_cuts::Options),
    /// Many clients at random on a few volumes; a model decides which answers are legal
    Races(races::Options),
    /// Snapshots of file systems that are written to all the time; each is restored and checked
    SnapshotsUnderLoad(under_load::Options),
    /// Random states of real LVM, in each of which all capacity must be there, and not an extent more
    Capacity(at_random::Options),
    /// Installs Quarry in the cluster that `quarry-lab cluster up` keeps
    Install {
        /// How many workers it has
        #[arg(long, default_value_t = 3)]
        workers: u8,
    },
    /// What this program does on the machine itself
    #[command(subcommand, hide = true)]
    Inside(Inside),
}

#[derive(Debug, clap::Subcommand)]
enum Inside {
    /// Checks cases of the themes named
    Cases {
        /// Where the node's log goes
        #[arg(long)]
        results: String,
        themes: Vec<String>,
    },
    /// Tries capacities
    Capacity {
        /// Where the node's log goes
        #[arg(long)]
        results: String,
        #[command(flatten)]
        options: at_random::Options,
    },
    /// The measuring half of `bench`
    Bench(inside::bench::Flags),
    /// One CSI call
    #[command(subcommand)]
    Step(Step),
    /// Works on volumes until the power is cut
    Workload(workload::Options),
    /// Checks what a power cut left against the journal
    Check(check::Options),
    /// Many clients at random on a few volumes
    Races(inside::races::Options),
    /// Snapshots of one file system that is written to
    UnderLoad(inside::under_load::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().trial {
        Trial::Check { themes } => {
            let themes: Vec<&str> = themes.iter().map(String::as_str).collect();
            checks::run(&themes, &site::target_folder()?.join("check/by-hand")).map(drop)
        }
        Trial::Bench(flags) => bench::run(&flags),
        Trial::BenchCluster(flags) => bench::cluster::run(&flags),
        Trial::BenchController(flags) => bench::controller::run(&flags),
        Trial::Demo => demo::run(),
        Trial::Sanity { variants } => {
            for outcome in sanity::run(&site::target_folder()?.join("sanity"), &variants)? {
                println!("{}: {} passed, {} skipped", outcome.name, outcome.passed, outcome.skipped.len());
                sanity::judge(&outcome)?;
            }
            Ok(())
        }
        Trial::PowerCuts(options) => {
            let report = power_cuts::run(&options)?;
            println!(
                "{} cuts, of what was under way {:?}, {} growths of the pool and {} of the room of snapshots, {} copies gone on with, \
                 {} kills of the node alone, {} violations, seed {}",
                report.cuts,
                report.cuts_of,
                report.growths,
                report.reserve_growths,
                report.copies_gone_on,
                report.kills,
                report.violations,
                report.seed
            );
            report.judge()
        }
        Trial::Races(options) => {
            let report = races::run(&options)?;
            println!("{} calls, {} violations, seed {}", report.calls, report.violations.len(), report.seed);
            ensure!(report.violations.is_empty(), "some answers were illegal, or something was left behind");
            Ok(())
        }
        Trial::SnapshotsUnderLoad(options) => {
            let reports = under_load::run(&options)?;
            ensure!(reports.iter().all(|report| report.violations.is_empty()), "a snapshot was not what it must be");
            Ok(())
        }
        Trial::Capacity(options) => checks::capacity(&options, &site::target_folder()?.join("check/capacity")),
        Trial::Install { workers } => background::install(workers),
        Trial::Inside(inside) => {
            let runtime = runtime(&inside)?;
            let ended = runtime.block_on(run_inside(inside));
            // A task that never ends must not keep the error from being told.
            runtime.shutdown_background();
            ended
        }
    }
}

async fn run_inside(inside: Inside) -> anyhow::Result<()> {
    match inside {
        Inside::Bench(flags) => inside::bench::run(&flags).await,
        Inside::Step(step) => step::run(step).await,
        Inside::Cases { results, themes } => inside::check::check(&themes, &results).await,
        Inside::Capacity { results, options } => inside::check::capacity(&options, &results).await,
        Inside::Workload(options) => workload::run(&options).await,
        Inside::Check(options) => check::run(&options).await,
        Inside::Races(options) => inside::races::run(&options).await,
        Inside::UnderLoad(options) => inside::under_load::run(&options).await,
    }
}

fn runtime(inside: &Inside) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match inside {
        // A client that is timed must not compete with the node for the machine's one processor.
        Inside::Bench(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(4).enable_all().build()
}
