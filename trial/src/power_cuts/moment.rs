//! When the power is cut, by what stands in the journal: not a time, so that a slow machine has done as much by then
//! as a quick one.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::inside::kind::Kind;
use crate::inside::power::journal::Journal;
use crate::inside::power::ledger::{Answer, Call, Content, Entry, Ledger};

/// Bytes that the journal grows by, about 100 for a line.
const BYTES: Range<u64> = 1_000..16_000;
/// The same for a client that is alone.
const BYTES_ALONE: Range<u64> = 0..3_000;
/// The same in the middle of a check.
const BYTES_OF_CHECK: Range<u64> = 0..5_000;
/// The latest moment; a check may have little to do.
const LIMIT: Duration = Duration::from_secs(40);
/// The same where something must be under way.
const LIMIT_OF_EVENT: Duration = Duration::from_mins(2);

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
    /// What has begun and is not over.
    UnderWay(Event),
}

/// What is not over in a moment, and is cut off if that comes then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The thin pool is at its mark, and so is about to be grown.
    GrowthOfPool,
    /// So is the room of a thick snapshot.
    GrowthOfReserve,
    /// A group snapshot is made or deleted.
    Group,
    /// A copy is made block by block.
    Copy,
    /// A copy is staged for the first time, and its file system gets a UUID of its own.
    NewUuid,
}

impl Event {
    /// All of them.
    pub(super) const ALL: [Self; 5] =
        [Self::GrowthOfPool, Self::GrowthOfReserve, Self::Group, Self::Copy, Self::NewUuid];

    /// New volumes of works in which it comes soon.
    fn kinds(self) -> &'static str {
        match self {
            Self::GrowthOfPool | Self::Group => "thin-ext4,thin-block",
            Self::GrowthOfReserve | Self::Copy => "ext4,block",
            Self::NewUuid => "xfs,btrfs",
        }
    }

    /// About how long it takes, milliseconds: a growth waits for its node and for lvm.
    fn milliseconds(self) -> u64 {
        match self {
            Self::GrowthOfPool | Self::GrowthOfReserve => 600,
            Self::Copy | Self::Group => 700,
            Self::NewUuid => 400,
        }
    }

    fn is_under_way(self, ledger: &Ledger) -> bool {
        let mut asked = ledger.volumes.values().filter_map(|volume| Some((volume, &volume.pending.as_ref()?.0)));
        let is_thin = |kind: Option<Kind>| kind.is_some_and(Kind::is_thin);
        match self {
            Self::GrowthOfPool => matches!(ledger.pool, Some(Entry::Pool { is_at_mark: true, .. })),
            Self::GrowthOfReserve => ledger.reserves.values().any(|(_, is_at_mark)| *is_at_mark),
            Self::Group => asked.any(|(volume, _)| !volume.members.is_empty()),
            Self::Copy => asked.any(|(volume, call)| {
                let Call::Copy { from, .. } = call else { return false };
                !is_thin(volume.kind) || !is_thin(ledger.volumes.get(from).and_then(|source| source.kind))
            }),
            Self::NewUuid => asked.any(|(volume, call)| {
                *call == Call::Stage && volume.content == Content::Copied && volume.kind.is_some_and(Kind::is_large)
            }),
        }
    }
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

    /// While something is under way.
    pub(super) fn of(event: Event, random: &mut fastrand::Rng) -> Self {
        let clients = if event == Event::NewUuid { 2 } else { 4 };
        Self { clients, bytes: 0, when: When::UnderWay(event), pause: pause(random, event.milliseconds()) }
    }

    /// In the middle of a check.
    pub(super) fn of_check(random: &mut fastrand::Rng) -> Self {
        Self { clients: 0, bytes: random.u64(BYTES_OF_CHECK), when: When::AnyTime, pause: pause(random, 400) }
    }

    /// The kinds of new volumes in the work before it, if it is not all the same.
    pub(super) fn kinds(&self) -> Option<&'static str> {
        match self.when {
            When::UnderWay(event) => Some(event.kinds()),
            When::AnyTime | When::ChangeAnswered => None,
        }
    }

    /// Whether the work before it is to make many copies.
    pub(super) fn is_of_copies(&self) -> bool {
        matches!(self.when, When::UnderWay(Event::Copy | Event::NewUuid))
    }

    /// Waits for it. What was over before the cut could come is waited for once more, and cut off sooner.
    pub(super) fn wait(&self, journal: &Path) -> Result<()> {
        let (begun, mut pause) = (Instant::now(), self.pause);
        loop {
            self.come(journal, begun)?;
            sleep(pause);
            match self.when {
                When::UnderWay(event)
                    if begun.elapsed() < LIMIT_OF_EVENT && !event.is_under_way(&Journal::read(journal)?) =>
                {
                    pause /= 2;
                }
                _ => return Ok(()),
            }
        }
    }

    fn come(&self, journal: &Path, begun: Instant) -> Result<()> {
        let length = || fs::metadata(journal).map_or(0, |metadata| metadata.len());
        let mut seen = length();
        let end = seen + self.bytes;
        let limit = if matches!(self.when, When::UnderWay(_)) { LIMIT_OF_EVENT } else { LIMIT };
        while begun.elapsed() < limit {
            let now = length();
            let is_late_enough = now >= end;
            let has_come = || {
                Ok::<_, anyhow::Error>(match self.when {
                    When::AnyTime => true,
                    When::ChangeAnswered => now > seen && changes_group(journal),
                    When::UnderWay(event) => now > seen && event.is_under_way(&Journal::read(journal)?),
                })
            };
            if is_late_enough && has_come()? {
                break;
            }
            seen = now;
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, bytes, when, pause } = self;
        let when = match when {
            When::AnyTime => String::new(),
            When::ChangeAnswered => String::from(" and a change answered"),
            When::UnderWay(event) => format!(" and {event:?} under way"),
        };
        write!(formatter, "{clients} clients, {bytes} bytes written{when}, {} ms later", pause.as_millis())
    }
}

fn pause(random: &mut fastrand::Rng, most_milliseconds: u64) -> Duration {
    Duration::from_millis(random.u64(..most_milliseconds))
}

/// What is not over by the journal.
pub(super) fn under_way(journal: &Path) -> Result<Vec<Event>> {
    let ledger = Journal::read(journal)?;
    Ok(Event::ALL.into_iter().filter(|event| event.is_under_way(&ledger)).collect())
}

fn backwards(text: &[u8]) -> impl Iterator<Item = Entry> {
    text.rsplit(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// Whether the last line answers a call that changes the metadata of the volume group.
fn changes_group(journal: &Path) -> bool {
    let text = fs::read(journal).unwrap_or_default();
    let mut entries = backwards(&text)
        .filter(|entry| !matches!(entry, Entry::Pool { .. } | Entry::Reserve { .. } | Entry::Lost { .. }));
    let Some(Entry::Outcome { volume, answer }) = entries.next() else { return false };
    let call = entries.find_map(|entry| match entry {
        Entry::Intent { volume: other, call } if other == volume => Some(call),
        _ => None,
    });
    let changes = matches!(
        call,
        Some(
            Call::Create { .. }
                | Call::Copy { .. }
                | Call::Snapshot { .. }
                | Call::SnapshotGroup { .. }
                | Call::Delete
                | Call::Grow { .. }
        )
    );
    changes && !matches!(answer, Answer::Refused { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(changes_group(&path));
        assert_eq!(under_way(&path).unwrap(), [Event::GrowthOfPool]);
        journal.write(&Entry::Pool { extents: 24, is_at_mark: false }).unwrap();
        assert_eq!(under_way(&path).unwrap(), []);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_asked_and_not_answered_is_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = Journal::open(&path).unwrap();
        let ask = |name: &str, call: Call| journal.write(&Entry::Intent { volume: name.to_owned(), call }).unwrap();
        let tell = |name: &str, answer: Answer| {
            journal.write(&Entry::Outcome { volume: name.to_owned(), answer }).unwrap();
        };
        let made = || Answer::Volume { id: String::from("n/v"), bytes: 304 << 20 };
        ask("v", Call::Create { kind: Kind::Xfs, bytes: 304 << 20 });
        tell("v", made());
        ask("v", Call::Stage);
        assert_eq!(under_way(&path).unwrap(), []);
        ask("c", Call::Copy { from: String::from("v"), kind: Kind::Xfs, bytes: 304 << 20 });
        assert_eq!(under_way(&path).unwrap(), [Event::Copy]);
        tell("c", made());
        ask("c", Call::Stage);
        assert_eq!(under_way(&path).unwrap(), [Event::NewUuid]);
        tell("c", Answer::Done);
        ask("g", Call::SnapshotGroup { of: vec![String::from("v")] });
        assert_eq!(under_way(&path).unwrap(), [Event::Group]);
        journal.write(&Entry::Reserve { snapshot: String::from("s"), extents: 1, is_at_mark: true }).unwrap();
        assert_eq!(under_way(&path).unwrap(), [Event::GrowthOfReserve, Event::Group]);
    }
}
