//! One process of the driver on the machine. Every effect passes through here, is counted, and may be the
//! one that goes wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::disk::Survivors;
use crate::machine::{Fault, Machine};

/// How an effect goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing was done, and that is said.
    FailsBefore,
    /// It was done, but a failure is reported.
    FailsAfter,
    /// Of an lvm command that loads tables: committed, but the device stays suspended and a failure is reported.
    LeavesSuspended,
    /// Of an lvm command that commits more than once: a signal ends it after the first time.
    BreaksOff,
    /// The driver's process ends before it.
    DiesBefore,
    /// The driver's process ends after it.
    DiesAfter,
    /// The power fails after it.
    LosesPower(Survivors),
}

impl Mode {
    pub const ALL: [Self; 9] = [
        Self::FailsBefore,
        Self::FailsAfter,
        Self::LeavesSuspended,
        Self::BreaksOff,
        Self::DiesBefore,
        Self::DiesAfter,
        Self::LosesPower(Survivors::Nothing),
        Self::LosesPower(Survivors::Metadata),
        Self::LosesPower(Survivors::Data),
    ];
}

/// How the effects begin that change nothing.
const LOOKS: [&str; 11] = [
    "read ",
    "block_devices",
    "mounts",
    "mapped_devices",
    "pool_status ",
    "snapshot_status ",
    "device_at ",
    "usage",
    "hold ",
    "blkid ",
    "lvm vgs ",
];

impl Mode {
    /// Whether an effect can go wrong like this, and otherwise than the one before it.
    pub fn is_of(self, effect: &str) -> bool {
        if LOOKS.iter().any(|look| effect.starts_with(look)) {
            return self == Self::FailsBefore;
        }
        let is = |command: &str| effect.starts_with(&format!("lvm {command} "));
        let makes_snapshot = is("lvcreate") && effect.contains(" --snapshot ");
        let is_split = is("lvconvert");
        let volumes = effect.split(' ').filter(|word| word.contains('/') && !word.starts_with('/')).count();
        match self {
            Self::LeavesSuspended => is("lvextend") || makes_snapshot || is_split,
            Self::BreaksOff => {
                let commits_for_each = is("lvremove") || is("lvchange") && volumes > 1;
                let renews = effect.starts_with("xfs_db ") && effect.contains("uuid generate");
                makes_snapshot || is("lvcreate") && effect.contains(" --type thin") || commits_for_each || renews
            }
            _ => true,
        }
    }

    fn fault(self) -> Option<Fault> {
        match self {
            Self::LeavesSuspended => Some(Fault::LeavesSuspended),
            Self::BreaksOff => Some(Fault::BreaksOff),
            _ => None,
        }
    }
}

/// What is watched while the driver works.
#[derive(Default)]
struct Watch {
    /// The effect that goes wrong, counted from 1, and how.
    plan: Option<(usize, Mode)>,
    is_counting: bool,
    effects: Vec<String>,
    /// What the driver must never do, and did.
    violations: Vec<String>,
    /// Effects whose names hold this text do not begin.
    hanging: Option<String>,
    /// Effects whose names hold one of these texts fail, and do nothing.
    refused: Vec<String>,
    has_lost_power: bool,
    spoiled: Option<Spoiled>,
    /// Disks that answer nothing but errors.
    broken_disks: Vec<String>,
}

/// How lvm cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoiled {
    /// It is not installed.
    Missing,
    /// A signal ends it.
    Killed,
    /// It ends well and does nothing but print nonsense.
    Nonsense,
    /// It fails with 64 KiB of words, the last of which say why.
    Verbose,
}

/// The machine, and the eye on it.
#[derive(Default)]
pub struct Bench {
    machine: Mutex<Machine>,
    watch: Mutex<Watch>,
}

/// A process of the driver.
#[derive(Clone)]
pub struct Seat {
    pub bench: Arc<Bench>,
    /// Set when the process has ended. Its tasks then wait for ever.
    pub dead: CancellationToken,
}

impl Bench {
    /// The machine of tests, and which of its effects is to go wrong.
    pub fn new(plan: Option<(usize, Mode)>) -> Arc<Self> {
        let watch = Watch { plan, ..Watch::default() };
        Arc::new(Self { machine: Mutex::new(Machine::new()), watch: Mutex::new(watch) })
    }

    /// A machine on which nothing is planned to go wrong.
    pub fn over(machine: Machine) -> Arc<Self> {
        Arc::new(Self { machine: Mutex::new(machine), watch: Mutex::default() })
    }

    pub fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Effects count from now on.
    pub fn count(&self) {
        self.watch().is_counting = true;
    }

    /// Effects do not count any more. Answers those that did.
    pub fn counted(&self) -> Vec<String> {
        let mut watch = self.watch();
        watch.is_counting = false;
        watch.effects.clone()
    }

    pub fn violations(&self) -> Vec<String> {
        self.watch().violations.clone()
    }

    /// Whether the power failed since this was last asked.
    pub fn take_power_cut(&self) -> bool {
        std::mem::take(&mut self.watch().has_lost_power)
    }

    pub fn hang_effects_with(&self, text: Option<&str>) {
        self.watch().hanging = text.map(str::to_owned);
    }

    fn is_hanging(&self, effect: &str) -> bool {
        self.watch().hanging.as_deref().is_some_and(|text| effect.contains(text))
    }

    pub fn refuse_effects_with(&self, texts: &[&str]) {
        self.watch().refused = texts.iter().map(ToString::to_string).collect();
    }

    fn is_refused(&self, effect: &str) -> bool {
        self.watch().refused.iter().any(|text| effect.contains(text))
    }

    pub fn spoil_lvm(&self, how: Option<Spoiled>) {
        self.watch().spoiled = how;
    }

    pub fn spoiled(&self) -> Option<Spoiled> {
        self.watch().spoiled
    }

    pub fn break_disks(&self, disks: &[&str]) {
        self.watch().broken_disks = disks.iter().map(ToString::to_string).collect();
    }

    pub fn is_broken(&self, device: &Path) -> bool {
        self.watch().broken_disks.iter().any(|disk| device == Path::new("/dev").join(disk))
    }

    /// How the effect that is about to be done goes wrong.
    fn next(&self, effect: &str) -> Option<Mode> {
        let mut watch = self.watch();
        if !watch.is_counting {
            return None;
        }
        watch.effects.push(effect.to_owned());
        let (at, mode) = watch.plan?;
        (at == watch.effects.len()).then_some(mode)
    }

    /// Does something to the machine; what must never be done is noted.
    fn act<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| act(&mut self.machine())));
        done.map_err(|panic| {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            self.watch().violations.push(words.unwrap_or_default());
        })
        .ok()
    }
}

impl Seat {
    pub fn new(bench: &Arc<Bench>) -> Self {
        Self { bench: Arc::clone(bench), dead: CancellationToken::new() }
    }

    /// Does something to the machine, or fails with `failure`, as planned.
    pub async fn effect<T>(&self, name: String, act: impl FnOnce(&mut Machine) -> T, failure: impl FnOnce() -> T) -> T {
        // Other tasks get their turn between any two effects.
        tokio::task::yield_now().await;
        while self.bench.is_hanging(&name) {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        if self.dead.is_cancelled() {
            return std::future::pending().await;
        }
        let mode = self.bench.next(&name);
        if mode == Some(Mode::DiesBefore) {
            return self.die().await;
        }
        if mode == Some(Mode::FailsBefore) || self.bench.is_refused(&name) {
            return failure();
        }
        self.bench.machine().fault = mode.and_then(Mode::fault);
        let done = self.bench.act(act);
        self.bench.machine().fault = None;
        match mode {
            Some(Mode::DiesAfter) => self.die().await,
            Some(Mode::LosesPower(survivors)) => {
                self.bench.act(|machine| machine.lose_power(survivors));
                self.bench.watch().has_lost_power = true;
                self.die().await
            }
            Some(Mode::FailsAfter | Mode::LeavesSuspended | Mode::BreaksOff) => failure(),
            _ => done.unwrap_or_else(failure),
        }
    }

    async fn die<T>(&self) -> T {
        self.dead.cancel();
        std::future::pending().await
    }
}
