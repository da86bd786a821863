//! What is kept of a volume and made of that.

use super::{Answer, Call, Shape, State};
use crate::inside::kind::Kind;

/// How many snapshots of its own a volume has at most.
pub const SNAPSHOTS: usize = 2;
/// What the copies are made of: each of one thing only, so that a second call never asks for another.
pub const SOURCES: [Source; 5] = [
    Source { of: Of::Snapshot(0), other_layout: false },
    Source { of: Of::Snapshot(1), other_layout: true },
    Source { of: Of::Volume, other_layout: false },
    Source { of: Of::Volume, other_layout: true },
    Source { of: Of::Group, other_layout: false },
];
/// How a write is answered where nothing can be written.
pub const UNWRITTEN: Answer = Answer::Refused(tonic::Code::FailedPrecondition);

/// Where a copy comes from.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    pub of: Of,
    /// Whether it becomes thick of a thin one, or the other way round.
    pub other_layout: bool,
}

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Snapshot(usize),
    /// The volume's part of the group snapshot.
    Group,
    Volume,
}

/// What is in a snapshot or a copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kept {
    pub bytes: u64,
    /// The last number that its volume held; nothing when that was never staged.
    pub number: Option<u64>,
}

/// The snapshots of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Snapshots {
    own: [Option<Kept>; SNAPSHOTS],
    of_group: Option<Kept>,
}

/// The copies of a volume and of its snapshots.
pub type Copies = [Option<Kept>; SOURCES.len()];

impl Snapshots {
    /// Whether there is one.
    pub fn is_any(&self) -> bool {
        self.own.iter().any(Option::is_some)
    }
}

/// The state after this answer; none where that must not be.
pub(super) fn after(kind: Kind, state: &State, call: Call, answer: Answer) -> Option<State> {
    let mut next = state.clone();
    match call {
        Call::Snapshot(index) => make(&mut next.snapshots.own[index], of(state), answer)?,
        Call::Group if answer == Answer::Refused(tonic::Code::NotFound) => {
            // Another volume of the group may be missing.
        }
        Call::Group => make(&mut next.snapshots.of_group, of(state), answer)?,
        Call::Copy(index) => {
            let source = match SOURCES[index].of {
                Of::Snapshot(snapshot) => state.snapshots.own[snapshot].clone(),
                Of::Group => state.snapshots.of_group.clone(),
                Of::Volume => of(state),
            };
            make(&mut next.copies[index], source, answer)?;
        }
        Call::DeleteSnapshot(index) if answer == Answer::Done => next.snapshots.own[index] = None,
        Call::DeleteGroup if answer == Answer::Done => next.snapshots.of_group = None,
        Call::DeleteCopy(index) if answer == Answer::Done => next.copies[index] = None,
        Call::Read(index) => {
            let right = match &state.copies[index] {
                None => Answer::Refused(tonic::Code::NotFound),
                // Nothing is formatted that is a copy.
                Some(Kept { number: None, .. }) if !kind.is_block() => UNWRITTEN,
                Some(Kept { number, .. }) => Answer::Number(number.unwrap_or(0)),
            };
            if answer != right {
                return None;
            }
        }
        _ => return None,
    }
    Some(next)
}

fn of(state: &State) -> Option<Kept> {
    state.volume.as_ref().map(|Shape { bytes, number, .. }| Kept { bytes: *bytes, number: *number })
}

/// After it was asked for there is what was there already, or what its source holds now; none where the answer says otherwise.
fn make(there: &mut Option<Kept>, source: Option<Kept>, answer: Answer) -> Option<()> {
    *there = there.take().or(source);
    let right = there.as_ref().map_or(Answer::Refused(tonic::Code::NotFound), |kept| Answer::Bytes(kept.bytes));
    (answer == right).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 16 << 20;
    const NOT_FOUND: Answer = Answer::Refused(tonic::Code::NotFound);
    const PRECONDITION: Answer = Answer::Refused(tonic::Code::FailedPrecondition);

    /// The end of these calls with their answers, of a volume that is staged and published; none where one is illegal.
    fn end(kind: Kind, calls: &[(Call, Answer)]) -> Option<State> {
        let shape = Shape { bytes: BYTES, staged: true, targets: [Some(false), Some(true)], number: Some(0) };
        let state = State { volume: Some(shape), ..State::default() };
        calls.iter().try_fold(state, |state, (call, answer)| super::super::after(kind, &state, *call, *answer))
    }

    fn write(number: u64) -> (Call, Answer) {
        (Call::Write { target: 0, number }, Answer::Done)
    }

    #[test]
    fn a_copy_holds_what_the_volume_held_at_its_snapshot() {
        let made = Answer::Bytes(BYTES);
        let calls = |seen| {
            [
                write(1),
                (Call::Snapshot(0), made),
                write(2),
                (Call::Copy(0), made),
                (Call::Read(0), Answer::Number(seen)),
            ]
        };
        assert!(end(Kind::ThinBlock, &calls(1)).is_some());
        assert_eq!(end(Kind::ThinBlock, &calls(2)), None);
        assert_eq!(end(Kind::ThinBlock, &calls(0)), None);
    }

    #[test]
    fn what_is_there_already_keeps_what_it_held() {
        let made = Answer::Bytes(BYTES);
        let twice =
            [write(1), (Call::Copy(2), made), write(2), (Call::Copy(2), made), (Call::Read(2), Answer::Number(1))];
        assert!(end(Kind::Ext4, &twice).is_some());
    }

    #[test]
    fn nothing_is_made_of_what_is_not_there() {
        assert!(end(Kind::Ext4, &[(Call::Copy(0), NOT_FOUND), (Call::Read(0), NOT_FOUND)]).is_some());
        assert_eq!(end(Kind::Ext4, &[(Call::Copy(0), Answer::Bytes(BYTES))]), None);
    }

    #[test]
    fn only_a_thick_volume_is_held_by_its_snapshot() {
        let grow = (Call::Grow { bytes: 2 * BYTES }, Answer::Bytes(2 * BYTES));
        let snapshot = (Call::Snapshot(1), Answer::Bytes(BYTES));
        assert!(end(Kind::ThinExt4, &[snapshot, grow]).is_some());
        assert_eq!(end(Kind::Ext4, &[snapshot, grow]), None);
        assert!(end(Kind::Ext4, &[snapshot, (grow.0, PRECONDITION)]).is_some());
        assert!(end(Kind::Ext4, &[snapshot, (Call::DeleteSnapshot(1), Answer::Done), grow]).is_some());
    }

    #[test]
    fn nothing_is_written_where_it_is_published_read_only() {
        let read_only = Call::Write { target: 1, number: 1 };
        assert!(end(Kind::Block, &[(read_only, UNWRITTEN)]).is_some());
        assert_eq!(end(Kind::Block, &[(read_only, Answer::Done)]), None);
    }
}
