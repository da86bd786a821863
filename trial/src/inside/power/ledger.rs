//! What must be true by what was asked and answered so far; of groups of snapshots in `group`.

mod group;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::group::member;
use crate::inside::kind::{Kind, rounded};
use crate::inside::power::records::Record;

/// A call of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Create {
        kind: Kind,
        bytes: u64,
    },
    /// Of a volume or a snapshot.
    Copy {
        from: String,
        kind: Kind,
        bytes: u64,
    },
    /// Makes a snapshot of a volume.
    Snapshot {
        of: String,
    },
    /// Makes snapshots of several volumes at one moment.
    SnapshotGroup {
        of: Vec<String>,
    },
    Delete,
    Stage,
    Unstage,
    Publish,
    Unpublish,
    Grow {
        bytes: u64,
    },
    GrowOnNode,
}

/// What the node said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Volume {
        id: String,
        bytes: u64,
    },
    /// The id of a group snapshot, and the ids and bytes of its snapshots by the names of their volumes.
    Group {
        id: String,
        members: BTreeMap<String, (String, u64)>,
    },
    Bytes(u64),
    Done,
    Refused {
        code: String,
        message: String,
    },
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The machine came up: nothing is staged or published.
    Boot,
    /// A call is about to be sent.
    Intent { volume: String, call: Call },
    /// It was answered.
    Outcome { volume: String, answer: Answer },
    /// A record was written and flushed.
    Record { volume: String, record: Record },
    /// The thin pool has so many extents now, none when it is not there, and is at the mark where it grows, or is not.
    Pool { extents: u64, is_at_mark: bool },
    /// The same of the room of a thick snapshot.
    Reserve { snapshot: String, extents: u64, is_at_mark: bool },
    /// A thick snapshot was full, and has lost what it held.
    Lost { snapshot: String },
    /// What was wrong so far has been reported.
    Reported,
}

/// Whether a volume is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existence {
    #[default]
    Absent,
    Present,
    /// A creation or a deletion was sent and not answered.
    Unknown,
}

/// What is on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Content {
    /// Nothing yet.
    #[default]
    Nothing,
    /// What its source held, down to the file system's UUID perhaps: it was never staged.
    Copied,
    /// What its user put there.
    Used,
}

/// What is known of a volume, of a snapshot, or of a group of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    pub existence: Existence,
    pub kind: Option<Kind>,
    pub id: Option<String>,
    /// As answered last.
    pub bytes: u64,
    /// As asked for last, rounded to extents.
    pub asked: u64,
    pub staged: bool,
    pub published: bool,
    /// The volume that it is a snapshot of, if it is one.
    pub snapshot_of: Option<String>,
    /// The group that it is a snapshot of, if it is one.
    pub group: Option<String>,
    /// The volumes that it is a group of snapshots of, if it is one.
    pub members: Vec<String>,
    pub content: Content,
    /// What must be read back.
    pub records: Vec<Record>,
    /// Sent and not answered, with what was known before.
    pub pending: Option<(Call, Existence)>,
}

/// All volumes, by name.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub volumes: BTreeMap<String, Volume>,
    /// The pool as it was seen last.
    pub pool: Option<Entry>,
    /// How often the pool has grown since that was reported.
    pub growths: u64,
    /// The room of thick snapshots as it was seen last: extents, and whether it was at the mark.
    pub reserves: BTreeMap<String, (u64, bool)>,
    /// How often one of these has grown since that was reported.
    pub reserve_growths: u64,
    /// Thick snapshots that were seen to be lost.
    pub lost: BTreeSet<String>,
    /// What may not be: answers that no node gives, snapshots that were not grown in time.
    pub problems: Vec<String>,
}

impl Ledger {
    /// Takes one more entry into account.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Boot => {
                for volume in self.volumes.values_mut() {
                    (volume.staged, volume.published) = (false, false);
                }
            }
            Entry::Intent { volume, call } => {
                let source = match call {
                    Call::Copy { from, .. } => self.volumes.get(from).cloned(),
                    Call::Snapshot { of } => self.volumes.get(of).cloned(),
                    _ => None,
                };
                self.volumes.entry(volume.clone()).or_default().sent(call, source.unwrap_or_default());
                self.members_sent(volume, call);
            }
            Entry::Outcome { volume: name, answer } => {
                let volume = self.volumes.entry(name.clone()).or_default();
                if let Err(problem) = volume.answered(answer).and_then(|()| self.members_answered(name, answer)) {
                    self.problems.push(format!("{name}: {problem}"));
                }
            }
            Entry::Record { volume, record } => {
                self.volumes.entry(volume.clone()).or_default().records.push(record.clone());
            }
            Entry::Pool { extents, .. } => {
                let before = match self.pool {
                    Some(Entry::Pool { extents, .. }) => extents,
                    _ => 0,
                };
                self.growths += u64::from((1..*extents).contains(&before));
                self.pool = Some(entry.clone());
            }
            Entry::Reserve { snapshot, extents, is_at_mark } => {
                let before = self.reserves.insert(snapshot.clone(), (*extents, *is_at_mark));
                self.reserve_growths += u64::from(before.is_some_and(|(before, _)| before < *extents));
                self.reserves.retain(|_, (extents, _)| *extents > 0);
            }
            Entry::Lost { snapshot } => {
                self.problems.push(format!("thick snapshot {snapshot} was full and is lost"));
                self.lost.insert(snapshot.clone());
            }
            Entry::Reported => {
                self.problems.clear();
                (self.growths, self.reserve_growths) = (0, 0);
            }
        }
    }
}

impl Volume {
    fn sent(&mut self, call: &Call, source: Self) {
        let before = self.existence;
        match call {
            Call::Copy { kind, bytes, .. } => {
                if before != Existence::Present {
                    self.existence = Existence::Unknown;
                    self.kind = Some(*kind);
                    self.asked = rounded(*bytes);
                    self.records = source.records;
                    self.content = Content::Copied;
                }
            }
            Call::SnapshotGroup { of } => {
                if before != Existence::Present {
                    self.existence = Existence::Unknown;
                    self.members.clone_from(of);
                }
            }
            Call::Snapshot { of } => {
                if before != Existence::Present {
                    self.existence = Existence::Unknown;
                    (self.kind, self.asked, self.records) = (source.kind, source.bytes, source.records);
                    self.snapshot_of = Some(of.clone());
                }
            }
            Call::Create { kind, bytes } => {
                if before != Existence::Present {
                    self.existence = Existence::Unknown;
                    self.kind = Some(*kind);
                    self.asked = rounded(*bytes);
                }
            }
            Call::Delete => self.existence = Existence::Unknown,
            Call::Grow { bytes } => self.asked = self.asked.max(rounded(*bytes)),
            Call::Stage | Call::Unstage | Call::Publish | Call::Unpublish | Call::GrowOnNode => {}
        }
        // A retry of what was cut off knows no more than the first try did.
        let before = match &self.pending {
            Some((pending, before)) if pending == call => *before,
            _ => before,
        };
        self.pending = Some((call.clone(), before));
    }

    fn answered(&mut self, answer: &Answer) -> Result<(), String> {
        let Some((call, before)) = self.pending.take() else {
            return Err(format!("{answer:?} without a call"));
        };
        let unexpected = || format!("{call:?} of a volume {before:?} was answered with {answer:?}");
        match (&call, answer) {
            (Call::Create { .. } | Call::Copy { .. } | Call::Snapshot { .. }, Answer::Volume { id, bytes }) => {
                let is_same = before != Existence::Present || self.bytes == *bytes && self.id.as_ref() == Some(id);
                if !is_same || *bytes != self.asked {
                    return Err(unexpected());
                }
                (self.existence, self.id, self.bytes) = (Existence::Present, Some(id.clone()), *bytes);
            }
            (Call::SnapshotGroup { .. }, Answer::Group { id, .. }) => {
                (self.existence, self.id) = (Existence::Present, Some(id.clone()));
            }
            // Its predecessor is being wiped, or its source is busy.
            (
                Call::Create { .. } | Call::Copy { .. } | Call::Snapshot { .. } | Call::SnapshotGroup { .. },
                Answer::Refused { code, .. },
            ) if code == "Aborted" && before != Existence::Present => {
                self.existence = before;
                if before == Existence::Absent {
                    self.records.clear();
                    self.members.clear();
                }
                if before == Existence::Unknown {
                    self.pending = Some((call, before));
                }
            }
            // Its deleted snapshot is not parted from it yet. One that stays so is told where the call is insisted on.
            (Call::Grow { .. }, Answer::Refused { code, .. }) if code == "Aborted" => {
                self.pending = Some((call, before));
            }
            // A disk that does not answer in time: not known whether it was done, so it is tried again.
            (_, Answer::Refused { code, .. }) if code == "Unavailable" => self.pending = Some((call, before)),
            (Call::Delete, Answer::Done) => *self = Self { kind: self.kind, ..Self::default() },
            (Call::Stage, Answer::Done) => (self.staged, self.content) = (true, Content::Used),
            (Call::Unstage, Answer::Done) => self.staged = false,
            (Call::Publish, Answer::Done) => self.published = true,
            (Call::Unpublish, Answer::Done) => self.published = false,
            (Call::Grow { bytes: wanted }, Answer::Bytes(bytes)) => {
                if *bytes != rounded(*wanted).max(self.bytes) {
                    return Err(unexpected());
                }
                self.bytes = *bytes;
            }
            (Call::GrowOnNode, Answer::Bytes(bytes)) if *bytes == self.bytes => {}
            _ => {
                let problem = unexpected();
                // What it did is not known, so it stays to be tried again.
                self.pending = Some((call, before));
                return Err(problem);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(entries: &[(Call, Option<Answer>)]) -> (Volume, Vec<String>) {
        let mut ledger = Ledger::default();
        for (call, answer) in entries {
            let volume = String::from("v");
            ledger.apply(&Entry::Intent { volume: volume.clone(), call: call.clone() });
            if let Some(answer) = answer {
                ledger.apply(&Entry::Outcome { volume, answer: answer.clone() });
            }
        }
        (ledger.volumes["v"].clone(), ledger.problems)
    }

    fn create() -> Call {
        Call::Create { kind: Kind::Block, bytes: (4 << 20) - 1 }
    }

    fn made() -> Answer {
        Answer::Volume { id: String::from("n/v"), bytes: 4 << 20 }
    }

    #[test]
    fn a_creation_without_an_answer_may_be_either() {
        assert_eq!(folded(&[(create(), None)]).0.existence, Existence::Unknown);
        assert_eq!(folded(&[(create(), Some(made()))]).0.existence, Existence::Present);
    }

    #[test]
    fn a_deletion_without_an_answer_may_be_either_and_is_gone_after_it() {
        let entries = [(create(), Some(made())), (Call::Delete, None), (Call::Delete, Some(Answer::Done))];
        assert_eq!(folded(&entries[..2]).0.existence, Existence::Unknown);
        assert_eq!(folded(&entries).0.existence, Existence::Absent);
        assert!(folded(&entries).1.is_empty());
    }

    #[test]
    fn a_creation_that_is_told_to_wait_made_nothing() {
        let wait = Answer::Refused { code: String::from("Aborted"), message: String::new() };
        let (volume, problems) = folded(&[(create(), Some(wait))]);
        assert_eq!((volume.existence, problems.len()), (Existence::Absent, 0));
    }

    #[test]
    fn a_growth_that_is_told_to_wait_is_still_to_be_done() {
        let grow = || Call::Grow { bytes: 8 << 20 };
        let wait = Answer::Refused { code: String::from("Aborted"), message: String::new() };
        let entries = [(create(), Some(made())), (grow(), Some(wait)), (grow(), Some(Answer::Bytes(8 << 20)))];
        let (waiting, problems) = folded(&entries[..2]);
        assert_eq!((waiting.bytes, waiting.pending.is_some(), problems.len()), (4 << 20, true, 0));
        assert_eq!((folded(&entries).0.bytes, folded(&entries).1.len()), (8 << 20, 0));
    }

    #[test]
    fn a_snapshot_and_its_copy_hold_what_the_volume_held_when_it_was_asked_for() {
        let mut ledger = Ledger::default();
        let mut tell = |name: &str, call: Call, answer: Answer| {
            ledger.apply(&Entry::Intent { volume: name.to_owned(), call });
            ledger.apply(&Entry::Outcome { volume: name.to_owned(), answer });
        };
        tell("v", create(), made());
        tell("s", Call::Snapshot { of: String::from("v") }, made());
        let record = Record { number: 0, slot: 3, seed: 7 };
        ledger.apply(&Entry::Record { volume: String::from("v"), record });
        let mut tell = |name: &str, call: Call, answer: Answer| {
            ledger.apply(&Entry::Intent { volume: name.to_owned(), call });
            ledger.apply(&Entry::Outcome { volume: name.to_owned(), answer });
        };
        let copy = |from: &str| Call::Copy { from: from.to_owned(), kind: Kind::ThinBlock, bytes: 4 << 20 };
        tell("c", copy("v"), made());
        tell("d", copy("s"), made());
        tell("v", Call::Delete, Answer::Done);
        let records = |name: &str| ledger.volumes[name].records.len();
        assert_eq!([records("v"), records("s"), records("c"), records("d")], [0, 0, 1, 0]);
        assert_eq!(ledger.problems, Vec::<String>::new());
    }

    #[test]
    fn only_a_pool_that_is_larger_than_before_has_grown() {
        let mut ledger = Ledger::default();
        let mut seen = |extents, is_at_mark| {
            ledger.apply(&Entry::Pool { extents, is_at_mark });
            ledger.growths
        };
        assert_eq!([seen(16, false), seen(16, true), seen(24, true), seen(24, false), seen(36, true)], [0, 0, 1, 1, 2]);
        assert_eq!([seen(0, false), seen(16, false)], [2, 2]);
        ledger.apply(&Entry::Reported);
        assert_eq!(ledger.growths, 0);
    }

    #[test]
    fn only_room_of_a_snapshot_that_is_larger_than_before_has_grown() {
        let mut ledger = Ledger::default();
        let mut seen = |snapshot: &str, extents| {
            ledger.apply(&Entry::Reserve { snapshot: snapshot.to_owned(), extents, is_at_mark: false });
            ledger.reserve_growths
        };
        assert_eq!(
            [seen("a", 1), seen("b", 3), seen("a", 2), seen("b", 3), seen("a", 0), seen("a", 3)],
            [0, 0, 1, 1, 1, 1]
        );
        assert_eq!(ledger.reserves.len(), 2);
    }

    #[test]
    fn a_snapshot_that_was_lost_is_told_once_also_when_it_is_gone() {
        let mut ledger = Ledger::default();
        let snapshot = || String::from("a");
        ledger.apply(&Entry::Lost { snapshot: snapshot() });
        ledger.apply(&Entry::Reserve { snapshot: snapshot(), extents: 0, is_at_mark: false });
        assert_eq!(ledger.problems.len(), 1);
        ledger.apply(&Entry::Reported);
        assert!(ledger.problems.is_empty() && ledger.lost.contains("a"));
    }

    #[test]
    fn a_copy_is_staged_for_the_first_time_until_that_was_answered() {
        let copy = Call::Copy { from: String::from("w"), kind: Kind::Block, bytes: 4 << 20 };
        let entries = [(copy, Some(made())), (Call::Stage, None), (Call::Stage, Some(Answer::Done))];
        let is_new = |entries: &[_]| folded(entries).0.content == Content::Copied;
        assert_eq!([is_new(&entries[..1]), is_new(&entries[..2]), is_new(&entries)], [true, true, false]);
    }

    #[test]
    fn an_answer_of_another_size_is_a_problem() {
        let wrong = Answer::Volume { id: String::from("n/v"), bytes: 8 << 20 };
        assert_eq!(folded(&[(create(), Some(wrong))]).1.len(), 1);
        let grow = (Call::Grow { bytes: 9 << 20 }, Some(Answer::Bytes(8 << 20)));
        assert_eq!(folded(&[(create(), Some(made())), grow]).1.len(), 1);
    }
}
