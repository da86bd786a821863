//! How far a copy is, for a node that is started again: a tag that is written now and then, after what it tells of was flushed.

use super::{escape, unescape};

const PROGRESS: &str = "quarry.copied=";

/// How much of a copy is on the disk for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyProgress {
    /// The UUID of what it is copied from. What has another one has other content.
    pub of: String,
    /// Bytes from the start that are done.
    pub bytes: u64,
}

impl CopyProgress {
    /// The tag that says this.
    pub fn to_tag(&self) -> String {
        format!("{PROGRESS}{}/{}", escape(&self.of), self.bytes)
    }

    pub(super) fn parse(tags: &[String]) -> Option<Self> {
        let value = tags.iter().find_map(|tag| tag.strip_prefix(PROGRESS))?;
        let (of, bytes) = value.split_once('/')?;
        Some(Self { of: unescape(of)?, bytes: bytes.parse().ok()? })
    }
}
