//! Runs a scenario with each of its effects going wrong in each way, and compares the ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::call::Call;
use crate::observation::Observation;
use crate::orchestrator::Orchestrator;
use crate::seat::{Bench, Mode};

/// More problems than this are not listed.
const LISTED: usize = 12;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What has happened before, undisturbed.
    pub(crate) before: &'static [Call],
    /// What is disturbed; the background work after it, too.
    pub(crate) calls: &'static [Call],
    /// A part of an effect that there must be when nothing goes wrong: what the scenario is about.
    pub(crate) effect: &'static str,
    /// Whether pools and thick snapshots are looked after meanwhile.
    pub(crate) is_guarded: bool,
}

/// What comes when the last call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The driver finishes its background work.
    Rest,
    /// The power fails at once: no answer may rest on what was not flushed.
    LosePower,
}

struct Outcome {
    /// The effects from the start of `calls`.
    effects: Vec<String>,
    end: Observation,
    /// After a power cut when all is done.
    end_after_power_cut: Observation,
    /// Whether the metadata at the end is backed up.
    is_backed_up: bool,
}

impl Scenario {
    fn run(&self, plan: Option<(usize, Mode)>, then: Then) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let outcome = runtime.block_on(self.run_on(&Bench::new(plan), then));
        runtime.shutdown_background();
        outcome
    }

    async fn run_on(&self, bench: &Arc<Bench>, then: Then) -> Outcome {
        let mut orchestrator = Orchestrator::new(bench);
        for call in self.before {
            orchestrator.perform(*call).await;
        }
        // The calls meet a driver that has seen nothing yet.
        orchestrator.is_guarded = self.is_guarded;
        orchestrator.restart();
        bench.count();
        // Nor does its background work look before them, unless they are many.
        let head_start = if self.is_long() { Duration::ZERO } else { Duration::from_millis(500) };
        orchestrator.start_background_after(head_start);
        for call in self.calls {
            orchestrator.perform(*call).await;
        }
        if then == Then::LosePower {
            orchestrator.lose_power().await;
        }
        orchestrator.settle().await;
        let effects = bench.counted();
        let end = Observation::of(&orchestrator);
        let is_backed_up = bench.machine().is_backed_up("vg");
        orchestrator.lose_power().await;
        orchestrator.settle().await;
        let end_after_power_cut = Observation::of(&orchestrator);
        let violations = bench.violations();
        assert!(violations.is_empty(), "never to be done, but done: {violations:?}");
        Outcome { effects, end, end_after_power_cut, is_backed_up }
    }

    fn is_long(&self) -> bool {
        self.calls.len() > 3
    }

    /// All runs; panics with a list of what went wrong.
    pub(crate) fn enumerate(&self) {
        let calm = self.run(None, Then::Rest);
        let is_it = |effect: &String| effect.contains(self.effect);
        assert!(calm.effects.iter().any(is_it), "{:?} is not done: {:#?}", self.effect, calm.effects);
        let (mut runs, mut problems) = (0, Vec::new());
        let in_use = Mode::ALL.map(|mode| (mode, Then::Rest));
        // In a whole life only the last answer would be put to this test.
        let after_answer = Mode::ALL.map(|mode| (mode, Then::LosePower)).into_iter().filter(|_| !self.is_long());
        for (mode, then) in in_use.into_iter().chain(after_answer) {
            for at in 1.. {
                let effect = calm.effects.get(at - 1).map_or("", String::as_str);
                if !mode.is_of(effect) && !effect.is_empty() {
                    continue;
                }
                let outcome = catch_unwind(AssertUnwindSafe(|| self.run(Some((at, mode)), then)));
                if outcome.as_ref().is_ok_and(|outcome| outcome.effects.len() < at) {
                    break;
                }
                runs += 1;
                if let Err(problem) = verdict(outcome, &calm, mode, then) {
                    problems.push(format!("{mode:?} at effect {at} ({effect}), then {then:?}: {problem}"));
                }
            }
        }
        println!("{}: {} effects, {runs} runs", self.name, calm.effects.len());
        assert!(
            problems.is_empty(),
            "{} of {runs} runs of {:?} went wrong:\n{}",
            problems.len(),
            self.name,
            problems[..problems.len().min(LISTED)].join("\n")
        );
    }
}

fn verdict(outcome: std::thread::Result<Outcome>, calm: &Outcome, mode: Mode, then: Then) -> Result<(), String> {
    let outcome = outcome.map_err(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned())).unwrap_or_default()
    })?;
    if outcome.end != calm.end {
        return Err(format!("it ends with\n{:?}\nand not with\n{:?}", outcome.end, calm.end));
    }
    if outcome.end_after_power_cut != calm.end_after_power_cut {
        return Err(format!(
            "after another power cut it ends with\n{:?}\nand not with\n{:?}",
            outcome.end_after_power_cut, calm.end_after_power_cut
        ));
    }
    // What is to be backed up is only remembered, so a restart may leave it to the next change.
    let is_alive = then == Then::Rest
        && matches!(mode, Mode::FailsBefore | Mode::FailsAfter | Mode::LeavesSuspended | Mode::BreaksOff);
    if is_alive && outcome.is_backed_up != calm.is_backed_up {
        return Err(String::from("the last change is not backed up"));
    }
    Ok(())
}
