//! A condition that travels with a call. Who removes a volume by himself decided so on what he saw some time ago; the
//! node knows what is so now.

use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// Carries which volumes may be deleted; without it all may.
const KEY: &str = "quarry-delete-only";
const NEVER_USED: &str = "never-used";

/// Which volumes a call to delete one means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletable {
    /// Whatever has that id.
    Any,
    /// Only one that nobody ever used.
    NeverUsed,
}

impl Deletable {
    /// That of a call. A word of a later version is a narrower condition than none.
    pub fn of(metadata: &MetadataMap) -> Self {
        if metadata.contains_key(KEY) { Self::NeverUsed } else { Self::Any }
    }

    /// Says so in a call's metadata.
    pub fn put(self, metadata: &mut MetadataMap) {
        match self {
            Self::Any => {}
            Self::NeverUsed => drop(metadata.insert(KEY, AsciiMetadataValue::from_static(NEVER_USED))),
        }
    }
}
