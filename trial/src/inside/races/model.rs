//! The model of one volume with its snapshots and copies: which answers are legal in which state, and which state comes of them.
//! What only concerns snapshots and copies is in [`family`].

pub mod family;

use self::family::{Copies, Snapshots};
use crate::inside::kind::{Kind, rounded};

/// The two paths that a volume is published at.
pub const TARGETS: usize = 2;

/// A volume, what was kept of it and what was made of that.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub volume: Option<Shape>,
    pub snapshots: Snapshots,
    pub copies: Copies,
}

/// How a volume that is there looks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    pub bytes: u64,
    pub staged: bool,
    /// The last number that was written to it; nothing when it was never staged.
    pub number: Option<u64>,
    /// Whether it is published at each target, and whether read-only.
    pub targets: [Option<bool>; TARGETS],
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Create {
        bytes: u64,
        limit: u64,
    },
    Delete,
    Stage,
    Unstage,
    Publish {
        target: usize,
        read_only: bool,
    },
    Unpublish {
        target: usize,
    },
    Grow {
        bytes: u64,
    },
    GrowOnNode {
        target: usize,
    },
    Stats {
        target: usize,
    },
    Get,
    Validate,
    /// One volume's part of a list of all.
    List,
    /// Writes a number at a path.
    Write {
        target: usize,
        number: u64,
    },
    Snapshot(usize),
    DeleteSnapshot(usize),
    /// One volume's part of a snapshot of a group.
    Group,
    DeleteGroup,
    Copy(usize),
    DeleteCopy(usize),
    /// Reads the number in a copy.
    Read(usize),
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    Bytes(u64),
    Listed(Option<u64>),
    Number(u64),
    Refused(tonic::Code),
}

impl Call {
    /// Whether it is about what was kept of the volume, or made of it.
    fn is_of_family(self) -> bool {
        matches!(
            self,
            Self::Snapshot(_)
                | Self::DeleteSnapshot(_)
                | Self::Group
                | Self::DeleteGroup
                | Self::Copy(_)
                | Self::DeleteCopy(_)
                | Self::Read(_)
        )
    }

    /// Whether what it makes may have to wait until its predecessor is removed.
    pub fn makes(self) -> bool {
        matches!(self, Self::Create { .. } | Self::Snapshot(_) | Self::Copy(_) | Self::Group)
    }

    /// Whether it never changes anything, and so is never told to wait for another call.
    pub fn only_looks(self) -> bool {
        matches!(self, Self::Stats { .. } | Self::Get | Self::Validate | Self::List)
    }
}

impl Shape {
    fn is_published(&self) -> bool {
        self.targets.iter().any(Option::is_some)
    }
}

/// The state after this answer; none where no volume in that state may answer so.
pub fn after(kind: Kind, state: &State, call: Call, answer: Answer) -> Option<State> {
    if call.is_of_family() {
        return family::after(kind, state, call, answer);
    }
    let volume = match &state.volume {
        None => after_absent(call, answer),
        // A thick volume and its snapshots hang together.
        Some(_) if !kind.is_thin() && state.snapshots.is_any() && matches!(call, Call::Delete | Call::Grow { .. }) => {
            after_held(call, answer, state.volume.as_ref())
        }
        Some(shape) => after_present(kind.is_block(), shape, call, answer),
    }?;
    Some(State { volume, ..state.clone() })
}

/// What becomes of the volume; the outer one is none where that must not be.
type After = Option<Option<Shape>>;

fn after_absent(call: Call, answer: Answer) -> After {
    match (call, answer) {
        (Call::Create { bytes, .. }, Answer::Bytes(made)) if made == rounded(bytes) => {
            Some(Some(Shape { bytes: made, ..Shape::default() }))
        }
        (Call::Delete | Call::Unstage | Call::Unpublish { .. }, Answer::Done) | (Call::List, Answer::Listed(None)) => {
            Some(None)
        }
        (Call::Create { .. } | Call::Delete | Call::Unstage | Call::Unpublish { .. } | Call::List, _) => None,
        (Call::Write { .. }, answer) => (answer == family::UNWRITTEN).then_some(None),
        (_, Answer::Refused(tonic::Code::NotFound)) => Some(None),
        _ => None,
    }
}

/// A thick volume with a snapshot is neither deleted nor grown; growth to what it has is none.
fn after_held(call: Call, answer: Answer, volume: Option<&Shape>) -> After {
    let is_no_growth = |shape: &Shape| matches!(call, Call::Grow { bytes } if rounded(bytes) <= shape.bytes);
    let right = match volume.filter(|shape| is_no_growth(shape)) {
        Some(shape) => Answer::Bytes(shape.bytes),
        None => Answer::Refused(tonic::Code::FailedPrecondition),
    };
    (answer == right).then(|| volume.cloned())
}

fn after_present(is_block: bool, shape: &Shape, call: Call, answer: Answer) -> After {
    use tonic::Code::{AlreadyExists, FailedPrecondition, NotFound};
    let same = || Some(Some(shape.clone()));
    let when = |is_right: bool| if is_right { same() } else { None };
    let precondition = Answer::Refused(FailedPrecondition);
    match call {
        Call::Create { bytes, limit } => {
            let fits = shape.bytes >= bytes && (limit == 0 || shape.bytes <= limit);
            let right = if fits { Answer::Bytes(shape.bytes) } else { Answer::Refused(AlreadyExists) };
            when(answer == right)
        }
        Call::Delete => {
            let is_mounted = shape.is_published() || shape.staged && !is_block;
            match answer {
                Answer::Done if !is_mounted => Some(None),
                _ => when(answer == precondition && is_mounted),
            }
        }
        Call::Stage if answer == Answer::Done => {
            Some(Some(Shape { staged: true, number: Some(shape.number.unwrap_or(0)), ..shape.clone() }))
        }
        Call::Unstage => match answer {
            Answer::Done if !shape.is_published() => Some(Some(Shape { staged: false, ..shape.clone() })),
            _ => when(answer == precondition && shape.is_published()),
        },
        Call::Publish { target, read_only } => {
            let other = shape.targets.iter().flatten().any(|other| *other != read_only);
            let right = match shape.targets[target] {
                Some(now) if now == read_only => Answer::Done,
                Some(_) => Answer::Refused(AlreadyExists),
                // A device is read-only for all its users or for none.
                None if !shape.staged || is_block && other => precondition,
                None => Answer::Done,
            };
            let mut shape = shape.clone();
            if right == Answer::Done {
                shape.targets[target] = Some(read_only);
            }
            (answer == right).then_some(Some(shape))
        }
        Call::Unpublish { target } => {
            let mut shape = shape.clone();
            shape.targets[target] = None;
            (answer == Answer::Done).then_some(Some(shape))
        }
        Call::Write { target, number } if shape.targets[target] == Some(false) => {
            (answer == Answer::Done).then(|| Some(Shape { number: Some(number), ..shape.clone() }))
        }
        Call::Write { .. } => when(answer == family::UNWRITTEN),
        Call::Grow { bytes } => {
            let bytes = rounded(bytes).max(shape.bytes);
            (answer == Answer::Bytes(bytes)).then(|| Some(Shape { bytes, ..shape.clone() }))
        }
        Call::GrowOnNode { target } => when(match shape.targets[target] {
            Some(_) => answer == Answer::Bytes(shape.bytes),
            None => answer == Answer::Refused(NotFound),
        }),
        Call::Stats { target } => when(match (shape.targets[target], answer) {
            (Some(_), Answer::Bytes(total)) => is_room_of(is_block, total, shape.bytes),
            (None, answer) => answer == Answer::Refused(NotFound),
            _ => false,
        }),
        Call::Get => when(answer == Answer::Bytes(shape.bytes)),
        Call::Validate => when(answer == Answer::Done),
        Call::List => when(answer == Answer::Listed(Some(shape.bytes))),
        _ => None,
    }
}

/// A file system shows less than its device has, and may not have grown to it yet.
fn is_room_of(is_block: bool, total: u64, bytes: u64) -> bool {
    if is_block { total == bytes } else { total <= bytes && total > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(staged: bool, targets: [Option<bool>; 2]) -> State {
        let shape = Shape { bytes: 16 << 20, staged, targets, number: Some(0) };
        State { volume: Some(shape), ..State::default() }
    }

    #[test]
    fn a_volume_in_use_cannot_be_deleted() {
        let precondition = Answer::Refused(tonic::Code::FailedPrecondition);
        let published = present(true, [Some(true), None]);
        for (kind, state) in [(Kind::Ext4, present(true, [None, None])), (Kind::Block, published)] {
            assert_eq!(after(kind, &state, Call::Delete, Answer::Done), None);
            assert_eq!(after(kind, &state, Call::Delete, precondition), Some(state));
        }
        let staged = present(true, [None, None]);
        assert_eq!(after(Kind::Block, &staged, Call::Delete, Answer::Done), Some(State::default()));
    }

    #[test]
    fn a_second_target_of_a_block_volume_is_read_only_like_the_first() {
        let call = Call::Publish { target: 1, read_only: true };
        let state = present(true, [Some(false), None]);
        assert_eq!(after(Kind::Block, &state, call, Answer::Done), None);
        assert_eq!(after(Kind::Ext4, &state, call, Answer::Done), Some(present(true, [Some(false), Some(true)])));
    }

    #[test]
    fn what_is_absent_is_not_found_and_gone_for_those_who_take_away() {
        for call in [Call::Stage, Call::Get, Call::Grow { bytes: 1 }] {
            assert!(after(Kind::Ext4, &State::default(), call, Answer::Refused(tonic::Code::NotFound)).is_some());
            assert_eq!(after(Kind::Ext4, &State::default(), call, Answer::Done), None);
        }
        assert!(after(Kind::Ext4, &State::default(), Call::Delete, Answer::Done).is_some());
    }
}
