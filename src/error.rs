//! The one error type of the domain, and the one table that turns it into a gRPC code.
//!
//! No other file gives an error its code; `csi::observe` only has codes for calls that nobody answered. What each
//! code makes the callers do is why the table reads as it does: external-provisioner tries another node on
//! `RESOURCE_EXHAUSTED`, waits for ever on `ABORTED`, `UNAVAILABLE`, `CANCELLED` and `DEADLINE_EXCEEDED` ("still
//! running in the background"), and the resizer lets the user lower a request only after `OUT_OF_RANGE`,
//! `INVALID_ARGUMENT` or `NOT_FOUND`.

use std::io;

use tonic::{Code, Status};

use crate::host::commands::CommandError;

/// What the domain functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can keep a request from being done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request is missing or wrong; nothing was changed.
    #[error("{field}: {problem}")]
    InvalidArgument {
        /// The field, as the CSI specification writes it.
        field: String,
        /// The value found and what would be right.
        problem: String,
    },
    /// A volume, or what should lie at a path, is not there.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The name is taken by something that does not fit the request.
    #[error("{what} exists already, but {difference}")]
    AlreadyExists {
        /// What is in the way.
        what: String,
        /// How it differs from what was asked for.
        difference: String,
    },
    /// This node cannot make the volume now. Guarantees that nothing was left behind.
    #[error("no room on this node: {reason}")]
    NoRoom {
        /// Which volume groups were looked at and what they lack.
        reason: String,
    },
    /// This node cannot make the snapshot now. Guarantees that nothing was left behind. Not `RESOURCE_EXHAUSTED`: after that
    /// csi-snapshotter takes the snapshot for one that may still come to be, and does not let it be deleted.
    #[error("no snapshot can be made on this node: {reason}")]
    NoRoomForSnapshot {
        /// Which volume group or pool was looked at and what it lacks.
        reason: String,
    },
    /// No node can make the volume now. Guarantees that nothing was left behind on any.
    #[error("no node has room: {reason}")]
    NoNodeHasRoom {
        /// What each of them lacks.
        reason: String,
    },
    /// The size asked for cannot be had: contradictory limits, or growth beyond the room there is.
    #[error("{field}: {problem}")]
    OutOfRange {
        /// The field, as the CSI specification writes it.
        field: String,
        /// The value found and what would be right.
        problem: String,
    },
    /// Another operation on the same volume is running; ask again later.
    #[error("volume {volume}: {operation}; try again when it has ended")]
    Busy {
        /// The logical volume's name.
        volume: String,
        /// What is running.
        operation: String,
    },
    /// A paging token that this node did not hand out.
    #[error("starting_token: {token:?} was not given out by this driver; list again from the start")]
    InvalidToken {
        /// The token as it came.
        token: String,
    },
    /// The state of the volume forbids it until a person or another call changes it.
    #[error("{problem}")]
    FailedPrecondition {
        /// What is in the way and what to do about it.
        problem: String,
    },
    /// Something that should be there cannot be reached right now.
    #[error("{problem}")]
    Unavailable {
        /// What cannot be reached.
        problem: String,
    },
    /// The caller's deadline was over before the work was done; it may go on.
    #[error("the deadline is over: {problem}")]
    Late {
        /// What was waited for.
        problem: String,
    },
    /// A command could not be run, or failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The kernel refused something.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The machine is not as the driver's own logic expects; always a defect or a damaged volume group.
    #[error("{problem}")]
    Internal {
        /// What was found.
        problem: String,
    },
}

impl Error {
    /// What it is when a snapshot is made: csi-snapshotter takes `RESOURCE_EXHAUSTED` for "may be under way".
    #[must_use]
    pub fn of_snapshot(self) -> Self {
        match self {
            Self::NoRoom { reason } => Self::NoRoomForSnapshot { reason },
            other => other,
        }
    }

    /// A field of a request that cannot be accepted.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidArgument { field: field.into(), problem: problem.into() }
    }

    /// A volume that does not exist, by its id as the caller gave it.
    pub fn no_volume(volume_id: &str) -> Self {
        Self::NotFound { what: format!("volume {volume_id:?}") }
    }

    /// An input or output error, with what was being done.
    pub fn kernel(what: impl Into<String>, source: io::Error) -> Self {
        Self::Kernel { what: what.into(), source }
    }

    /// A state that a person or another call must change first.
    pub fn precondition(problem: impl Into<String>) -> Self {
        Self::FailedPrecondition { problem: problem.into() }
    }

    /// The table: which gRPC code says what happened.
    pub fn code(&self) -> Code {
        match self {
            Self::InvalidArgument { .. } => Code::InvalidArgument,
            Self::NotFound { .. } => Code::NotFound,
            Self::AlreadyExists { .. } => Code::AlreadyExists,
            Self::NoRoom { .. } | Self::NoNodeHasRoom { .. } => Code::ResourceExhausted,
            Self::OutOfRange { .. } => Code::OutOfRange,
            Self::Busy { .. } | Self::InvalidToken { .. } => Code::Aborted,
            Self::FailedPrecondition { .. } | Self::NoRoomForSnapshot { .. } => Code::FailedPrecondition,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::Late { .. } => Code::DeadlineExceeded,
            // A disk that is too busy to answer in time, not one that is broken.
            Self::Kernel { source, .. } if source.kind() == io::ErrorKind::TimedOut => Code::Unavailable,
            Self::Command(_) | Self::Kernel { .. } | Self::Internal { .. } => Code::Internal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), shortened(error.to_string()))
    }
}

/// Bytes of the longest message. Its coding makes it up to three times as long, and many clients take 16 KiB of headers:
/// of a longer message they see nothing, not even the code.
const LONGEST: usize = 4096;
/// Bytes of the beginning that a longer one keeps: what failed. The rest is its end, where tools say why.
const BEGINNING: usize = 1024;

fn shortened(message: String) -> String {
    if message.len() <= LONGEST {
        return message;
    }
    let beginning = message.floor_char_boundary(BEGINNING);
    let end = message.ceil_char_boundary(message.len() + BEGINNING + 64 - LONGEST);
    format!("{} [... {} bytes left out ...] {}", &message[..beginning], end - beginning, &message[end..])
}

/// The code as the gRPC specification spells it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<(Error, Code)> {
        let text = || String::from("x");
        vec![
            (Error::invalid("name", "empty"), Code::InvalidArgument),
            (Error::no_volume("node/x"), Code::NotFound),
            (Error::AlreadyExists { what: text(), difference: text() }, Code::AlreadyExists),
            (Error::NoRoom { reason: text() }, Code::ResourceExhausted),
            (Error::NoNodeHasRoom { reason: text() }, Code::ResourceExhausted),
            (Error::NoRoomForSnapshot { reason: text() }, Code::FailedPrecondition),
            (Error::OutOfRange { field: text(), problem: text() }, Code::OutOfRange),
            (Error::Busy { volume: text(), operation: text() }, Code::Aborted),
            (Error::InvalidToken { token: text() }, Code::Aborted),
            (Error::precondition("x"), Code::FailedPrecondition),
            (Error::Unavailable { problem: text() }, Code::Unavailable),
            (Error::Late { problem: text() }, Code::DeadlineExceeded),
            (Error::Command(CommandError::Missing { program: text() }), Code::Internal),
            (Error::kernel("mount", io::Error::other("x")), Code::Internal),
            (Error::kernel("read", io::ErrorKind::TimedOut.into()), Code::Unavailable),
            (Error::Internal { problem: text() }, Code::Internal),
        ]
    }

    #[test]
    fn every_error_has_its_code_and_a_message() {
        for (error, code) in one_of_each() {
            let status = Status::from(error);
            assert_eq!(status.code(), code);
            assert!(!status.message().is_empty());
            assert!(status.details().is_empty());
        }
    }

    #[test]
    fn a_message_too_long_to_arrive_keeps_its_beginning_and_its_end() {
        let problem = format!("`lvcreate` failed: {}no such disk", "ß: ".repeat(20_000));
        let whole = problem.len();
        let message = Status::from(Error::Internal { problem }).message().to_owned();
        assert!(message.len() <= LONGEST, "{}", message.len());
        assert!(message.starts_with("`lvcreate` failed: ß: ") && message.ends_with("ß: no such disk"), "{message}");
        let (beginning, rest) = message.split_once(" [... ").unwrap();
        let (left_out, end) = rest.split_once(" bytes left out ...] ").unwrap();
        assert_eq!(beginning.len() + left_out.parse::<usize>().unwrap() + end.len(), whole);
        let short = Status::from(Error::Internal { problem: "x".repeat(LONGEST) });
        assert_eq!(short.message().len(), LONGEST);
    }

    /// `UNAVAILABLE` and `ABORTED` park a claim on this node for ever, so no permanent failure may use them.
    #[test]
    fn a_full_node_is_told_apart_from_a_busy_one() {
        assert_eq!(Error::NoRoom { reason: String::new() }.code(), Code::ResourceExhausted);
        assert_eq!(Error::Busy { volume: String::new(), operation: String::new() }.code(), Code::Aborted);
    }
}
