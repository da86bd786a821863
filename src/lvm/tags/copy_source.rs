//! What is remembered of a snapshot that is made only to copy a volume from, which its user may be writing to.

use super::content::Content;
use super::{BYTES, CLASS, DRIVER, KIND_COPY_SOURCE, driver_tag, escape, is_gone, value_of};

const COPY: &str = "quarry.copy=";
const OF: &str = "quarry.of=";

/// What the tags of a copy source say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopySourceTags {
    /// The UUID of the volume that is copied.
    pub of: String,
    /// Its class.
    pub class: String,
    /// Its bytes when the copy source was made.
    pub bytes: u64,
    /// What was on it then.
    pub content: Content,
    /// The logical volume's name of the copy.
    pub copy: String,
    /// The name of the driver that made it.
    pub driver: String,
}

impl CopySourceTags {
    /// The tags that say all this.
    pub fn to_tags(&self) -> Vec<String> {
        let mut tags = vec![String::from(KIND_COPY_SOURCE), driver_tag(&self.driver)];
        tags.extend([
            format!("{OF}{}", escape(&self.of)),
            format!("{COPY}{}", escape(&self.copy)),
            format!("{BYTES}{}", self.bytes),
        ]);
        if !self.class.is_empty() {
            tags.push(format!("{CLASS}{}", escape(&self.class)));
        }
        tags.extend(self.content.to_tags());
        tags
    }

    /// What the tags of a logical volume say; `None` when it is no copy source.
    pub fn parse(tags: &[String]) -> Option<Self> {
        (tags.iter().any(|tag| tag == KIND_COPY_SOURCE) && !is_gone(tags)).then_some(())?;
        Some(Self {
            of: value_of(tags, OF)?,
            class: value_of(tags, CLASS).unwrap_or_default(),
            bytes: value_of(tags, BYTES)?.parse().ok()?,
            content: Content::parse(tags),
            copy: value_of(tags, COPY)?,
            driver: value_of(tags, DRIVER)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::VolumeTags;
    use super::super::snapshot::SnapshotTags;
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_is_neither_a_volume_nor_a_snapshot() {
        let source = CopySourceTags {
            of: String::from("CiAEgk-HiCh-N1fr-GMN0-N1bi-O0rO-IXMA93"),
            class: String::from("fast"),
            bytes: 5 << 30,
            content: Content { file_system: Some(String::from("xfs")), block: true, empty: false },
            copy: String::from("pvc-1"),
            driver: String::from("lvm.quarry.storage"),
        };
        let tags = source.to_tags();
        assert_eq!(CopySourceTags::parse(&tags), Some(source));
        assert_eq!((VolumeTags::parse(&tags), SnapshotTags::parse(&tags)), (None, None));
    }
}
