//! The copies that are being made: how many at once, and how far they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::node::Node;

/// How many volumes are copied at once: more would only share the disks.
const AT_ONCE: usize = 2;
/// Bytes that are written, and how long it takes, before it is remembered how far a copy is: whichever comes later.
const REMEMBER: (u64, Duration) = (1 << 30, Duration::from_secs(10));

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The class of the volume that is made.
    pub class: String,
    /// Bytes that are copied.
    pub done: u64,
    /// Bytes that are copied in the end.
    pub all: u64,
}

impl Node {
    /// How far the copies are that are being made, by the names of their volumes.
    pub fn copies(&self) -> BTreeMap<String, Progress> {
        self.copies.all()
    }

    /// Has it remembered how far a copy is each time that so many bytes were written, however long that takes: trials have small
    /// volumes. What was said first counts.
    pub fn remember_copies_every(&self, bytes: u64) {
        self.copies.remember.get_or_init(|| (bytes, Duration::ZERO));
    }
}

/// The copies that are being made, by the names of their volumes.
pub struct Copies {
    permits: Semaphore,
    progress: Mutex<BTreeMap<String, Progress>>,
    /// As [`REMEMBER`], where it is another.
    remember: OnceLock<(u64, Duration)>,
    /// UUIDs of the volumes that are active only since a thick snapshot of theirs is read.
    lent: Mutex<BTreeSet<String>>,
}

/// A copy that is being made, forgotten when dropped.
pub(super) struct Begun<'c>(&'c Copies, String);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(AT_ONCE),
            progress: Mutex::default(),
            remember: OnceLock::new(),
            lent: Mutex::default(),
        }
    }
}

impl Copies {
    /// How far the copying of a volume is, for messages: `copied (3 of 10 MiB)`.
    pub fn progress(&self, volume: &str) -> Option<String> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.get(volume).map(|progress| format!("copied ({} of {} MiB)", progress.done >> 20, progress.all >> 20))
    }

    fn all(&self) -> BTreeMap<String, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn begin(&self, volume: &str, class: &str, all: u64) -> Begun<'_> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.insert(volume.to_owned(), Progress { class: class.to_owned(), done: 0, all });
        Begun(self, volume.to_owned())
    }

    pub(super) fn note(&self, volume: &str, done: u64, all: u64) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = progress.get_mut(volume) {
            (progress.done, progress.all) = (done, all);
        }
    }

    /// Whether it is time to remember how far a copy is, so many bytes and so long after the last time.
    pub(super) fn is_to_be_remembered(&self, bytes: u64, since: Duration) -> bool {
        let (least_bytes, least_time) = *self.remember.get().unwrap_or(&REMEMBER);
        bytes >= least_bytes && since >= least_time
    }

    /// Notes that a volume is to be deactivated when no copy needs it any more. The caller has the volume's lock, as for all that
    /// follows of it.
    pub(in crate::node) fn lend(&self, uuid: &str) {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).insert(uuid.to_owned());
    }

    pub(in crate::node) fn is_lent(&self, uuid: &str) -> bool {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).contains(uuid)
    }

    /// One that has a user now stays active. Nothing else tells that of a raw device: its user may not have it open yet.
    pub(in crate::node) fn end_lending(&self, uuid: &str) {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).remove(uuid);
    }

    /// The right to copy now; nothing when no more is copied.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_third_copy_waits_until_one_of_two_ends() {
        let (copies, soon) = (Copies::default(), Duration::from_secs(1));
        let first = copies.permit().await;
        let _second = copies.permit().await;
        assert!(timeout(soon, copies.permit()).await.is_err());
        drop(first);
        assert!(timeout(soon, copies.permit()).await.is_ok_and(|permit| permit.is_some()));
    }
}
