//! Asking again until there is an answer.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What came of asking once; an error instead means that asking again is useless.
pub(crate) enum Answer<T> {
    Here(T),
    /// Why not.
    NotYet(String),
}

/// Asks every so often until the answer is here. When the limit passes first, an error says what was missing last, and
/// then what `logs` gives.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    pause: Duration,
    logs: impl Fn() -> String,
    mut ask: impl FnMut() -> Result<Answer<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match ask()? {
            Answer::Here(found) => return Ok(found),
            Answer::NotYet(reason) if Instant::now() >= deadline => {
                bail!("waited {limit:?} for {what}: {reason}{}", logs());
            }
            Answer::NotYet(_) => sleep(pause),
        }
    }
}
