//! What is looked after while the node runs, each by a task of its own: one whose disk or lvm command hangs holds up no other.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch::{self, Receiver, Sender};
use tokio::time::{Instant, timeout_at};

use crate::lvm::groups::View;
use crate::node::Node;

/// What there is. The tasks end when this is dropped, each when it next pauses.
#[derive(Default)]
pub(super) struct Attended(HashMap<Same, Sender<()>>);

/// What must be as it was for a task to go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Same {
    /// The volume group.
    pub(super) group: String,
    /// All else.
    pub(super) what: String,
}

/// Wakes the task of something.
pub(super) struct Wakes(Receiver<()>);

impl Attended {
    /// Gives what is new among them a task; the tasks of what is not among them any more end, unless its volume group only
    /// could not be read when it was looked for.
    pub(super) fn keep<W, F>(
        &mut self,
        (node, view): (&Arc<Node>, &View),
        now: impl IntoIterator<Item = (Same, W)>,
        attend: impl Fn(Arc<Node>, W, Wakes) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut before = std::mem::take(&mut self.0);
        for (same, what) in now {
            let begin = || {
                let (wake, wakes) = watch::channel(());
                node.detached.spawn(attend(Arc::clone(node), what, Wakes(wakes)));
                wake
            };
            let wake = before.remove(&same).unwrap_or_else(begin);
            self.0.insert(same, wake);
        }
        self.0.extend(before.into_iter().filter(|(same, _)| view.may_hide(&same.group)));
    }

    /// Ends all pauses.
    pub(super) fn wake(&self) {
        for wake in self.0.values() {
            wake.send_replace(());
        }
    }
}

impl Wakes {
    /// Pauses until then, or until woken; false when the task is to end.
    pub(super) async fn pause(&mut self, until: Instant) -> bool {
        !matches!(timeout_at(until, self.0.changed()).await, Ok(Err(_)))
    }
}
