//! Which volumes may have come to be on which node: those whose making has an unknown end.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a doubt is remembered; callers try again within minutes.
const REMEMBERED: Duration = Duration::from_hours(1);

/// That a volume may have come to be on a node, or may be coming to be just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) node: String,
    since: Instant,
}

/// The doubts by the names of the volumes.
#[derive(Default)]
pub(super) struct Doubts(Mutex<HashMap<String, Doubt>>);

impl Doubts {
    /// The doubt about that volume.
    pub(super) fn about(&self, name: &str) -> Option<Doubt> {
        self.lock().get(name).filter(|doubt| doubt.since.elapsed() < REMEMBERED).cloned()
    }

    /// Notes that the volume may come to be on a node; what was doubted before.
    pub(super) fn begin(&self, name: &str, node: &str) -> Option<Doubt> {
        let mut doubts = self.lock();
        doubts.retain(|_, doubt| doubt.since.elapsed() < REMEMBERED);
        doubts.insert(name.to_owned(), Doubt { node: node.to_owned(), since: Instant::now() })
    }

    /// Ends the doubt about the volume on a node; what is left is what was doubted before it.
    pub(super) fn end(&self, name: &str, node: &str, before: Option<Doubt>) {
        let mut doubts = self.lock();
        // Another call may have begun one since.
        if doubts.get(name).is_some_and(|doubt| doubt.node == node) {
            match before {
                Some(before) => drop(doubts.insert(name.to_owned(), before)),
                None => drop(doubts.remove(name)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Doubt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_doubt_lasts_an_hour_and_one_that_ends_leaves_the_one_before() {
        let doubts = Doubts::default();
        let node = || doubts.about("pvc-1").map(|doubt| doubt.node);
        assert_eq!(doubts.begin("pvc-1", "a"), None);
        tokio::time::advance(REMEMBERED / 2).await;
        let before = doubts.begin("pvc-1", "b");
        assert_eq!(node().as_deref(), Some("b"));
        doubts.end("pvc-1", "c", None);
        assert_eq!(node().as_deref(), Some("b"), "another call's doubt");
        doubts.end("pvc-1", "b", before);
        assert_eq!(node().as_deref(), Some("a"));
        tokio::time::advance(REMEMBERED / 2).await;
        assert_eq!(node(), None, "the older one is not renewed");
    }
}
