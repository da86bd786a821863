//! How far a worker's clock is from this machine's: times from both are compared, and guests' clocks go their own way.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::Installed;

const TRIES: usize = 5;

/// A worker's clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Seconds; below 0 it is late.
    ahead: f64,
}

impl Clock {
    /// What this machine's clock showed when the worker's showed that.
    pub fn here(self, there: SystemTime) -> SystemTime {
        let difference = Duration::from_secs_f64(self.ahead.abs());
        if self.ahead < 0.0 { there + difference } else { there - difference }
    }
}

impl Installed {
    /// Asks for the time some times; the quickest answer is the least wrong.
    pub fn clock_of(&self, worker: &str) -> Result<Clock> {
        let mut best: Option<(Duration, Clock)> = None;
        for _ in 0..TRIES {
            let asked = SystemTime::now();
            let there: f64 = self.on(worker, "date +%s.%N")?.parse().context("date said no number")?;
            let took = asked.elapsed().unwrap_or_default();
            let here = (asked + took / 2).duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
            if best.is_none_or(|(least, _)| took < least) {
                best = Some((took, Clock { ahead: there - here }));
            }
        }
        best.map(|(_, clock)| clock).context("the worker was not asked")
    }
}
