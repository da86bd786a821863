//! When the power is cut, by what stands in the journal: not a time, so that a slow machine has done as much by then
//! as a quick one.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::inside::power::ledger::{Answer, Call, Entry};

/// Bytes that the journal grows by, about 100 for a line.
const BYTES: Range<u64> = 1_000..16_000;
/// The same for a client that is alone.
const BYTES_ALONE: Range<u64> = 0..3_000;
/// The same in the middle of a check.
const BYTES_OF_CHECK: Range<u64> = 0..5_000;
/// The latest moment; a check may have little to do.
const LIMIT: Duration = Duration::from_secs(20);

/// A moment.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    /// How many clients work until then.
    pub(super) clients: u64,
    bytes: u64,
    when: When,
    pause: Duration,
}

/// What must have come last besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Anything.
    AnyTime,
    /// The answer to a call that changed the volume group.
    ChangeAnswered,
    /// The thin pool's mark, from which on it is grown.
    PoolAtMark,
}

impl Moment {
    /// In the thick of the work of all clients.
    pub(super) fn of_work(random: &mut fastrand::Rng) -> Self {
        Self { clients: 4, bytes: random.u64(BYTES), when: When::AnyTime, pause: pause(random, 400) }
    }

    /// Just after a client that is alone was told that the volume group changed: only then no flush for somebody else makes
    /// up for one that is missing.
    pub(super) fn of_answer(random: &mut fastrand::Rng) -> Self {
        Self { clients: 1, bytes: random.u64(BYTES_ALONE), when: When::ChangeAnswered, pause: pause(random, 30) }
    }

    /// While the thin pool is grown: lvm is waited for, started, and works for about a second.
    pub(super) fn of_growth(random: &mut fastrand::Rng) -> Self {
        Self { clients: 4, bytes: 0, when: When::PoolAtMark, pause: pause(random, 1_500) }
    }

    /// In the middle of a check.
    pub(super) fn of_check(random: &mut fastrand::Rng) -> Self {
        Self { clients: 0, bytes: random.u64(BYTES_OF_CHECK), when: When::AnyTime, pause: pause(random, 400) }
    }

    /// Whether it comes when the thin pool is grown.
    pub(super) fn is_of_growth(&self) -> bool {
        self.when == When::PoolAtMark
    }

    /// Waits for it.
    pub(super) fn wait(&self, journal: &Path) {
        let length = || fs::metadata(journal).map_or(0, |metadata| metadata.len());
        let (begun, mut seen) = (Instant::now(), length());
        let end = seen + self.bytes;
        while begun.elapsed() < LIMIT {
            let now = length();
            let is_late_enough = now >= end;
            let has_come = || match self.when {
                When::AnyTime => true,
                When::ChangeAnswered => now > seen && changes_group(journal),
                When::PoolAtMark => now > seen && is_pool_at_mark(journal),
            };
            if is_late_enough && has_come() {
                break;
            }
            seen = now;
            sleep(Duration::from_millis(1));
        }
        sleep(self.pause);
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, bytes, when, pause } = self;
        let when = match when {
            When::AnyTime => "",
            When::ChangeAnswered => " and a change answered",
            When::PoolAtMark => " and the pool at its mark",
        };
        write!(formatter, "{clients} clients, {bytes} bytes written{when}, {} ms later", pause.as_millis())
    }
}

fn pause(random: &mut fastrand::Rng, most_milliseconds: u64) -> Duration {
    Duration::from_millis(random.u64(..most_milliseconds))
}

/// Whether the thin pool was at its mark when it was seen last, and so was about to be grown.
pub(super) fn is_pool_at_mark(journal: &Path) -> bool {
    let text = fs::read(journal).unwrap_or_default();
    let mut pools = backwards(&text).filter(|entry| matches!(entry, Entry::Pool { .. }));
    matches!(pools.next(), Some(Entry::Pool { is_at_mark: true, .. }))
}

fn backwards(text: &[u8]) -> impl Iterator<Item = Entry> {
    text.rsplit(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// Whether the last line answers a call that changes the metadata of the volume group.
fn changes_group(journal: &Path) -> bool {
    let text = fs::read(journal).unwrap_or_default();
    let mut entries = backwards(&text).filter(|entry| !matches!(entry, Entry::Pool { .. }));
    let Some(Entry::Outcome { volume, answer }) = entries.next() else { return false };
    let call = entries.find_map(|entry| match entry {
        Entry::Intent { volume: other, call } if other == volume => Some(call),
        _ => None,
    });
    let changes = matches!(
        call,
        Some(Call::Create { .. } | Call::Copy { .. } | Call::Snapshot { .. } | Call::Delete | Call::Grow { .. })
    );
    changes && !matches!(answer, Answer::Refused { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::power::journal::Journal;

    #[tokio::test(flavor = "multi_thread")]
    async fn only_an_answered_change_of_the_group_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = Journal::open(&path).unwrap();
        let volume = || String::from("v");
        for (call, expected) in [(Call::Stage, false), (Call::Delete, true)] {
            journal.write(&Entry::Intent { volume: volume(), call }).unwrap();
            assert!(!changes_group(&path));
            journal.write(&Entry::Outcome { volume: volume(), answer: Answer::Done }).unwrap();
            assert_eq!(changes_group(&path), expected);
        }
        journal.write(&Entry::Pool { extents: 16, is_at_mark: true }).unwrap();
        assert!(changes_group(&path) && is_pool_at_mark(&path));
        journal.write(&Entry::Pool { extents: 24, is_at_mark: false }).unwrap();
        assert!(!is_pool_at_mark(&path));
    }
}
