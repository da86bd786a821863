//! The model of one volume: which answers are legal in which state, and which state comes of them.

use crate::inside::kind::rounded;

/// The two paths that a volume is published at.
pub const TARGETS: usize = 2;

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum State {
    #[default]
    Absent,
    Present(Shape),
}

/// How a volume that is there looks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    pub bytes: u64,
    pub staged: bool,
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
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    Bytes(u64),
    Listed(Option<u64>),
    Refused(tonic::Code),
}

impl Call {
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
pub fn after(is_block: bool, state: &State, call: Call, answer: Answer) -> Option<State> {
    match state {
        State::Absent => after_absent(call, answer),
        State::Present(shape) => after_present(is_block, shape, call, answer),
    }
}

fn after_absent(call: Call, answer: Answer) -> Option<State> {
    match (call, answer) {
        (Call::Create { bytes, .. }, Answer::Bytes(made)) if made == rounded(bytes) => {
            Some(State::Present(Shape { bytes: made, ..Shape::default() }))
        }
        (Call::Delete | Call::Unstage | Call::Unpublish { .. }, Answer::Done) | (Call::List, Answer::Listed(None)) => {
            Some(State::Absent)
        }
        (Call::Create { .. } | Call::Delete | Call::Unstage | Call::Unpublish { .. } | Call::List, _) => None,
        (_, Answer::Refused(tonic::Code::NotFound)) => Some(State::Absent),
        _ => None,
    }
}

fn after_present(is_block: bool, shape: &Shape, call: Call, answer: Answer) -> Option<State> {
    use tonic::Code::{AlreadyExists, FailedPrecondition, NotFound};
    let same = || Some(State::Present(shape.clone()));
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
                Answer::Done if !is_mounted => Some(State::Absent),
                _ => when(answer == precondition && is_mounted),
            }
        }
        Call::Stage if answer == Answer::Done => Some(State::Present(Shape { staged: true, ..shape.clone() })),
        Call::Unstage => match answer {
            Answer::Done if !shape.is_published() => Some(State::Present(Shape { staged: false, ..shape.clone() })),
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
            (answer == right).then_some(State::Present(shape))
        }
        Call::Unpublish { target } => {
            let mut shape = shape.clone();
            shape.targets[target] = None;
            (answer == Answer::Done).then_some(State::Present(shape))
        }
        Call::Grow { bytes } => {
            let bytes = rounded(bytes).max(shape.bytes);
            (answer == Answer::Bytes(bytes)).then(|| State::Present(Shape { bytes, ..shape.clone() }))
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
        Call::Stage => None,
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
        State::Present(Shape { bytes: 16 << 20, staged, targets })
    }

    #[test]
    fn a_volume_in_use_cannot_be_deleted() {
        let precondition = Answer::Refused(tonic::Code::FailedPrecondition);
        for (is_block, state) in [(false, present(true, [None, None])), (true, present(true, [Some(true), None]))] {
            assert_eq!(after(is_block, &state, Call::Delete, Answer::Done), None);
            assert_eq!(after(is_block, &state, Call::Delete, precondition), Some(state));
        }
        assert_eq!(after(true, &present(true, [None, None]), Call::Delete, Answer::Done), Some(State::Absent));
    }

    #[test]
    fn a_second_target_of_a_block_volume_is_read_only_like_the_first() {
        let call = Call::Publish { target: 1, read_only: true };
        let state = present(true, [Some(false), None]);
        assert_eq!(after(true, &state, call, Answer::Done), None);
        assert_eq!(after(false, &state, call, Answer::Done), Some(present(true, [Some(false), Some(true)])));
    }

    #[test]
    fn what_is_absent_is_not_found_and_gone_for_those_who_take_away() {
        for call in [Call::Stage, Call::Get, Call::Grow { bytes: 1 }] {
            assert!(after(false, &State::Absent, call, Answer::Refused(tonic::Code::NotFound)).is_some());
            assert_eq!(after(false, &State::Absent, call, Answer::Done), None);
        }
        assert!(after(false, &State::Absent, Call::Delete, Answer::Done).is_some());
    }
}
