//! What must be true by what was asked and answered so far.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::inside::kind::{Kind, rounded};
use crate::inside::power::records::Record;

/// A call of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Create { kind: Kind, bytes: u64 },
    Delete,
    Stage,
    Unstage,
    Publish,
    Unpublish,
    Grow { bytes: u64 },
    GrowOnNode,
}

/// What the node said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Volume { id: String, bytes: u64 },
    Bytes(u64),
    Done,
    Refused { code: String, message: String },
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

/// What is known of a volume.
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
    /// What must be read back.
    pub records: Vec<Record>,
    /// Sent and not answered, with what was known before.
    pub pending: Option<(Call, Existence)>,
}

/// All volumes, by name.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub volumes: BTreeMap<String, Volume>,
    /// Answers that no node may give.
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
            Entry::Intent { volume, call } => self.volumes.entry(volume.clone()).or_default().sent(call),
            Entry::Outcome { volume: name, answer } => {
                let volume = self.volumes.entry(name.clone()).or_default();
                if let Err(problem) = volume.answered(answer) {
                    self.problems.push(format!("{name}: {problem}"));
                }
            }
            Entry::Record { volume, record } => {
                self.volumes.entry(volume.clone()).or_default().records.push(record.clone());
            }
            Entry::Reported => self.problems.clear(),
        }
    }
}

impl Volume {
    fn sent(&mut self, call: &Call) {
        let before = self.existence;
        match call {
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
            (Call::Create { .. }, Answer::Volume { id, bytes }) => {
                let is_same = before != Existence::Present || self.bytes == *bytes && self.id.as_ref() == Some(id);
                if !is_same || *bytes != self.asked {
                    return Err(unexpected());
                }
                (self.existence, self.id, self.bytes) = (Existence::Present, Some(id.clone()), *bytes);
            }
            // Its predecessor is being wiped.
            (Call::Create { .. }, Answer::Refused { code, .. })
                if code == "Aborted" && before != Existence::Present =>
            {
                self.existence = before;
                if before == Existence::Unknown {
                    self.pending = Some((call, before));
                }
            }
            // A disk that does not answer in time: not known whether it was done, so it is tried again.
            (_, Answer::Refused { code, .. }) if code == "Unavailable" => self.pending = Some((call, before)),
            (Call::Delete, Answer::Done) => *self = Self { kind: self.kind, ..Self::default() },
            (Call::Stage, Answer::Done) => self.staged = true,
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
    fn an_answer_of_another_size_is_a_problem() {
        let wrong = Answer::Volume { id: String::from("n/v"), bytes: 8 << 20 };
        assert_eq!(folded(&[(create(), Some(wrong))]).1.len(), 1);
        let grow = (Call::Grow { bytes: 9 << 20 }, Some(Answer::Bytes(8 << 20)));
        assert_eq!(folded(&[(create(), Some(made())), grow]).1.len(), 1);
    }
}
