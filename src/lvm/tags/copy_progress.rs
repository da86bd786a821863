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
    /// Whether all of them are: else, what its file system does not use may be left out.
    pub raw: bool,
}

/// Marks that all is done. Who does not know it begins anew.
const RAW: &str = "/raw";

impl CopyProgress {
    /// How much is done of a copy of what has that UUID, which is its user's block by block if it is `raw`.
    pub fn done(&self, of: &str, raw: bool) -> u64 {
        if self.of == of && (self.raw || !raw) { self.bytes } else { 0 }
    }

    /// The tag that says this.
    pub fn to_tag(&self) -> String {
        format!("{PROGRESS}{}/{}{}", escape(&self.of), self.bytes, if self.raw { RAW } else { "" })
    }

    pub(super) fn parse(tags: &[String]) -> Option<Self> {
        let value = tags.iter().find_map(|tag| tag.strip_prefix(PROGRESS))?;
        let whole = value.strip_suffix(RAW);
        let (of, bytes) = whole.unwrap_or(value).split_once('/')?;
        Some(Self { of: unescape(of)?, bytes: bytes.parse().ok()?, raw: whole.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_copy_goes_on_only_where_all_was_copied() {
        let progress = |raw| CopyProgress { of: String::from("a-1"), bytes: 7, raw };
        for raw in [false, true] {
            assert_eq!(CopyProgress::parse(&[progress(raw).to_tag()]), Some(progress(raw)));
            assert_eq!((progress(raw).done("a-1", false), progress(raw).done("b", false)), (7, 0));
        }
        assert_eq!((progress(true).done("a-1", true), progress(false).done("a-1", true)), (7, 0));
    }
}
