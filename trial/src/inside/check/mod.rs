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

/// The cases that somebody wishes; each wish must be for one at least, or a word that is mistyped would pass.
fn chosen(wanted: &[String]) -> Result<Vec<(&'static str, Case)>> {
    let is_wished = |wish: &String, (theme, case): &(&str, Case)| {
        let (name, words) = wish.split_once(':').unwrap_or((wish, ""));
        name == *theme && case.sentence.contains(words)
    };
    let of_theme = |theme: Theme| theme.cases.into_iter().map(move |case| (theme.name, case));
    let mut all: Vec<(&'static str, Case)> = cases::themes().into_iter().flat_map(of_theme).collect();
    if let Some(wish) = wanted.iter().find(|wish| !all.iter().any(|case| is_wished(wish, case))) {
        let names: Vec<&str> = cases::themes().iter().map(|theme| theme.name).collect();
        bail!("no case is chosen by {wish:?}; the themes are {}", names.join(", "));
    }
    all.retain(|case| wanted.is_empty() || wanted.iter().any(|wish| is_wished(wish, case)));
    Ok(all)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wish_must_choose_a_case() {
        let count = |wishes: &[&str]| {
            let wishes: Vec<String> = wishes.iter().map(|wish| (*wish).to_owned()).collect();
            chosen(&wishes).map(|cases| cases.len())
        };
        let (all, life) = (count(&[]).unwrap(), count(&["life"]).unwrap());
        assert!(life > 0 && life < all);
        assert_eq!(count(&["life:is not deleted"]).unwrap(), 1);
        for wishes in [["life", "hung_lvm"], ["life", "restart:is not there"]] {
            assert!(count(&wishes).unwrap_err().to_string().contains(wishes[1]));
        }
    }
}
