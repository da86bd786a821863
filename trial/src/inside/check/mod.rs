//! Runs cases one after the other on a machine of the lab and tells each one's end on a line of its own. A case
//! makes what it needs, takes it away again, and must leave the machine as it was.

mod controller_process;
mod devices;
mod ground;
mod group;
mod local_settings;
mod lvm_stand_in;
mod machine_state;
mod node_process;
mod tools;
mod volume;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

pub use self::controller_process::ControllerProcess;
pub use self::devices::{are_zero, digest, digest_of_first, file_with, fill, read_at, write_at};
pub use self::ground::{Ground, MIB};
pub use self::group::{Group, Slice};
pub use self::local_settings::LocalSettings;
pub use self::lvm_stand_in::{StandIn, hidden};
pub use self::machine_state::MachineState;
pub use self::node_process::metrics;
pub use self::tools::{answered, bytes_of_file_system, eventually, lvm, mount_options_at, refused, run, within};
pub use self::volume::{Volume, comfortable};

use super::cases::{self, at_random};

/// How long a case may take; most take a second or two on an idle machine, a few that make dozens of things take longer.
const CASE_LIMIT: Duration = Duration::from_mins(4);

/// What a case does.
pub type Steps<'g> = Pin<Box<dyn Future<Output = Result<()>> + 'g>>;

/// One thing that must hold.
pub struct Case {
    /// What holds, as a sentence.
    pub sentence: &'static str,
    /// What is done to see it.
    pub steps: for<'g> fn(&'g Ground) -> Steps<'g>,
}

/// Cases of one kind.
pub struct Theme {
    /// A word for the command line.
    pub name: &'static str,
    /// Its cases.
    pub cases: Vec<Case>,
}

/// Runs the cases of the themes (all of them when none is named; `theme:words` picks those whose sentence holds the
/// words). The error names those that failed.
pub async fn check(wanted: &[String], results: &str) -> Result<()> {
    let ground = Ground::prepare(results).await?;
    let mut passed = 0;
    let mut failed = Vec::new();
    for (theme, case) in chosen(wanted)? {
        let begun = Instant::now();
        let verdict = judge(&ground, &case).await;
        let seconds = begun.elapsed().as_secs_f64();
        let name = format!("{theme}: {}", case.sentence);
        match verdict {
            Ok(()) => {
                passed += 1;
                println!("ok      {name} ({seconds:.2} s)");
            }
            Err(problem) => {
                println!("FAILED  {name} ({seconds:.2} s): {problem:#}");
                failed.push(format!("{name}: {problem:#}"));
                ground.sweep().await.context("could not tidy up after the case that failed")?;
            }
        }
    }
    ground.end().await?;
    println!("{passed} cases passed");
    ensure!(failed.is_empty(), "{} cases failed:\n  {}", failed.len(), failed.join("\n  "));
    Ok(())
}

/// Tries capacities at random, longer than a case may take.
pub async fn capacity(options: &at_random::Options, results: &str) -> Result<()> {
    let ground = Ground::prepare(results).await?;
    let tried = at_random::run(&ground, options).await?;
    println!("{tried:?}");
    ground.end().await
}

fn chosen(wanted: &[String]) -> Result<Vec<(&'static str, Case)>> {
    let mut chosen = Vec::new();
    for theme in cases::themes() {
        let picks: Vec<&str> = wanted
            .iter()
            .filter_map(|wish| {
                let (name, words) = wish.split_once(':').unwrap_or((wish, ""));
                (name == theme.name).then_some(words)
            })
            .collect();
        let is_chosen = |case: &Case| wanted.is_empty() || picks.iter().any(|words| case.sentence.contains(words));
        chosen.extend(theme.cases.into_iter().filter(is_chosen).map(|case| (theme.name, case)));
    }
    if chosen.is_empty() {
        let names: Vec<&str> = cases::themes().iter().map(|theme| theme.name).collect();
        bail!("no case is chosen by {wanted:?}; the themes are {}", names.join(", "));
    }
    Ok(chosen)
}

async fn judge(ground: &Ground, case: &Case) -> Result<()> {
    let before = MachineState::read()?;
    tokio::time::timeout(CASE_LIMIT, (case.steps)(ground))
        .await
        .map_err(|_| anyhow!("it did not end within {CASE_LIMIT:?}"))??;
    ground.ensure_node_runs()?;
    let differences = before.differences(&MachineState::read()?);
    ensure!(differences.is_empty(), "it left the machine changed: {}", differences.join("; "));
    Ok(())
}
