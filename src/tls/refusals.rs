//! What the log says of connections that were refused: whoever can reach the port can cause refusals, as many as he likes.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The pause between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// Counts refusals and shows some of them.
#[derive(Default)]
pub(super) struct Refusals(Mutex<State>);

#[derive(Default)]
struct State {
    shown: Option<Instant>,
    not_shown: u64,
}

impl Refusals {
    /// Writes a line, unless there was one just now.
    pub(super) fn tell(&self, address: SocketAddr, reason: impl Display) {
        match self.count() {
            Some(0) => tracing::warn!(%address, %reason, "refused a connection"),
            Some(not_shown) => {
                tracing::warn!(%address, %reason, not_shown, "refused a connection, and others since the last such line");
            }
            None => {}
        }
    }

    /// Writes a line that the system could not accept a connection, unless there was one just now.
    pub(super) fn tell_failure(&self, error: &io::Error) {
        if let Some(not_shown) = self.count() {
            tracing::error!(%error, not_shown, "could not accept connections; trying again");
        }
    }

    /// Counts one more; if it is to be shown, how many were not before it.
    fn count(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.shown.is_some_and(|shown| shown.elapsed() < EVERY) {
            state.not_shown += 1;
            return None;
        }
        state.shown = Some(Instant::now());
        Some(std::mem::take(&mut state.not_shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_in_ten_seconds_is_shown_and_says_how_many_were_not() {
        let refusals = Refusals::default();
        assert_eq!([refusals.count(), refusals.count(), refusals.count()], [Some(0), None, None]);
        tokio::time::advance(EVERY).await;
        assert_eq!([refusals.count(), refusals.count()], [Some(2), None]);
        tokio::time::advance(EVERY).await;
        assert_eq!(refusals.count(), Some(1));
        tokio::time::advance(EVERY).await;
        assert_eq!(refusals.count(), Some(0));
    }
}
