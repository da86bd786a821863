//! A group of snapshots: each of them is as the group is, wholly there or wholly gone.

use super::{Answer, Call, Existence, Ledger, Volume};

/// How the snapshot of a volume in a group is called here. The node is never told that name.
pub fn member(group: &str, of: &str) -> String {
    format!("{group}-{of}")
}

impl Ledger {
    /// What a call about a group that was sent makes of its snapshots.
    pub(super) fn members_sent(&mut self, name: &str, call: &Call) {
        if let Call::SnapshotGroup { of } = call
            && self.volumes.get(name).is_some_and(|group| group.existence != Existence::Present)
        {
            for of in of {
                let source = self.volumes.get(of).cloned().unwrap_or_default();
                let snapshot = Volume {
                    kind: source.kind,
                    asked: source.bytes,
                    records: source.records,
                    snapshot_of: Some(of.clone()),
                    group: Some(name.to_owned()),
                    ..Volume::default()
                };
                self.volumes.insert(member(name, of), snapshot);
            }
        }
        self.follow(name);
    }

    /// What the answer makes of them.
    pub(super) fn members_answered(&mut self, name: &str, answer: &Answer) -> Result<(), String> {
        self.follow(name);
        let Answer::Group { members, .. } = answer else { return Ok(()) };
        let expected = self.volumes.get(name).map(|group| group.members.clone()).unwrap_or_default();
        if !members.keys().eq(&expected) {
            return Err(format!("a group of {expected:?} was answered with {members:?}"));
        }
        for (of, (id, bytes)) in members {
            let snapshot = self.volumes.entry(member(name, of)).or_default();
            if *bytes != snapshot.asked || snapshot.id.as_ref().is_some_and(|known| known != id) {
                return Err(format!("the snapshot {snapshot:?} was answered with {id} and {bytes} bytes"));
            }
            (snapshot.id, snapshot.bytes) = (Some(id.clone()), *bytes);
        }
        Ok(())
    }

    fn follow(&mut self, name: &str) {
        let existence = self.volumes.get(name).map(|group| group.existence).unwrap_or_default();
        let is_of_it = |snapshot: &Volume| snapshot.group.as_deref() == Some(name);
        if existence == Existence::Absent {
            self.volumes.retain(|_, snapshot| !is_of_it(snapshot));
        }
        for snapshot in self.volumes.values_mut().filter(|snapshot| is_of_it(snapshot)) {
            snapshot.existence = existence;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inside::kind::Kind;
    use crate::inside::power::ledger::Entry;

    fn ask(ledger: &mut Ledger, name: &str, call: Call) {
        ledger.apply(&Entry::Intent { volume: name.to_owned(), call });
    }

    fn tell(ledger: &mut Ledger, name: &str, answer: Answer) {
        ledger.apply(&Entry::Outcome { volume: name.to_owned(), answer });
    }

    fn group() -> Call {
        Call::SnapshotGroup { of: vec![String::from("a"), String::from("b")] }
    }

    fn made(bytes: u64) -> Answer {
        let member = |of: &str| (of.to_owned(), (format!("n/{of}"), bytes));
        Answer::Group { id: String::from("n/g"), members: BTreeMap::from([member("a"), member("b")]) }
    }

    fn with_sources() -> Ledger {
        let mut ledger = Ledger::default();
        for name in ["a", "b"] {
            ask(&mut ledger, name, Call::Create { kind: Kind::ThinBlock, bytes: 4 << 20 });
            tell(&mut ledger, name, Answer::Volume { id: format!("n/{name}"), bytes: 4 << 20 });
        }
        ledger
    }

    #[test]
    fn snapshots_of_a_group_are_there_or_not_as_the_group_is() {
        let mut ledger = with_sources();
        let existence = |ledger: &Ledger| ledger.volumes.get(&member("g", "b")).map(|snapshot| snapshot.existence);
        ask(&mut ledger, "g", group());
        assert_eq!(existence(&ledger), Some(Existence::Unknown));
        tell(&mut ledger, "g", made(4 << 20));
        assert_eq!((existence(&ledger), ledger.volumes["g-b"].bytes), (Some(Existence::Present), 4 << 20));
        ask(&mut ledger, "g", Call::Delete);
        assert_eq!(existence(&ledger), Some(Existence::Unknown));
        tell(&mut ledger, "g", Answer::Done);
        assert_eq!((existence(&ledger), ledger.problems.len()), (None, 0));
    }

    #[test]
    fn a_group_that_is_told_to_wait_is_nothing() {
        let mut ledger = with_sources();
        ask(&mut ledger, "g", group());
        tell(&mut ledger, "g", Answer::Refused { code: String::from("Aborted"), message: String::new() });
        assert_eq!((ledger.volumes.len(), ledger.volumes["g"].existence), (3, Existence::Absent));
        assert!(ledger.problems.is_empty());
    }

    #[test]
    fn an_answer_of_another_size_or_without_one_of_them_is_a_problem() {
        let less = || match made(4 << 20) {
            Answer::Group { id, mut members } => {
                members.remove("a");
                Answer::Group { id, members }
            }
            other => other,
        };
        for wrong in [made(8 << 20), less()] {
            let mut ledger = with_sources();
            ask(&mut ledger, "g", group());
            tell(&mut ledger, "g", wrong);
            assert_eq!(ledger.problems.len(), 1);
        }
    }
}
