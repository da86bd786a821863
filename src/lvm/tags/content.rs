//! What was on a volume at one moment, as its tags told then: remembered with what was made of it, since the volume goes on.

use super::{BLOCK, CopiedFrom, FILE_SYSTEM, VolumeTags, file_system_tag, split, take, unescape};

/// Marks what was made of a volume that had never been used.
const EMPTY: &str = "quarry.empty";

/// What is on a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// The file system that it was formatted with.
    pub file_system: Option<String>,
    /// Whether it is, or was, its user's as a block device.
    pub block: bool,
    /// Whether nobody ever used it.
    pub empty: bool,
}

impl Content {
    /// Of a volume as it is now.
    pub fn of(volume: &VolumeTags) -> Self {
        Self { file_system: volume.file_system.clone(), block: volume.block, empty: volume.fresh }
    }

    /// The tags that say all this.
    pub(super) fn to_tags(&self) -> impl Iterator<Item = String> {
        let file_system = self.file_system.as_deref().map(file_system_tag);
        let words = [(self.block, BLOCK), (self.empty, EMPTY)].into_iter().filter(|(is_set, _)| *is_set);
        file_system.into_iter().chain(words.map(|(_, word)| word.to_owned()))
    }

    /// What all the tags say of it.
    pub(super) fn parse(tags: &[String]) -> Self {
        let mut content = Self::default();
        for (key, value) in tags.iter().map(|tag| split(tag)) {
            content.read(key, value);
        }
        content
    }

    /// Takes in what one tag says, if that is of the content.
    pub(super) fn read(&mut self, key: &str, value: &str) {
        match key {
            FILE_SYSTEM => take(&mut self.file_system, unescape(value)),
            BLOCK => self.block = true,
            EMPTY => self.empty = true,
            _ => {}
        }
    }

    /// The tags of a volume that is copied from what lies under that name, as far as the content decides: never `fresh`,
    /// whatever it is.
    pub fn of_copy(&self, source: &str) -> VolumeTags {
        let Self { file_system, block, .. } = self.clone();
        let copied =
            CopiedFrom { source: source.to_owned(), same_uuid: file_system.is_some(), ..CopiedFrom::default() };
        VolumeTags { file_system, block, copied: Some(copied), ..VolumeTags::default() }
    }

    /// Whether a volume was made as a copy of this.
    pub fn is_of_copy(&self, volume: &VolumeTags) -> bool {
        self.file_system == volume.file_system && self.block == volume.block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let files = Content { file_system: Some(String::from("xfs")), ..Content::default() };
        let both = Content { block: true, ..files.clone() };
        let nothing = Content { empty: true, ..Content::default() };
        for content in [files, both, nothing, Content::default()] {
            assert_eq!(Content::parse(&content.to_tags().collect::<Vec<_>>()), content);
        }
    }

    #[test]
    fn a_copy_has_what_its_source_had_and_is_never_fresh() {
        let new = VolumeTags { name: String::from("a"), fresh: true, ..VolumeTags::default() };
        let empty = Content::of(&new);
        assert!(empty.empty && !empty.of_copy("a").fresh && empty.is_of_copy(&empty.of_copy("a")));
        let used = VolumeTags { fresh: false, file_system: Some(String::from("xfs")), ..new };
        let files = Content::of(&used);
        let copy = files.of_copy("snap-1");
        let copied = CopiedFrom { source: String::from("snap-1"), same_uuid: true, ..CopiedFrom::default() };
        assert_eq!((copy.file_system.as_deref(), copy.copied.as_ref()), (Some("xfs"), Some(&copied)));
        assert!(files.is_of_copy(&copy) && !empty.is_of_copy(&copy));
        assert!(!Content { block: true, ..files }.is_of_copy(&copy), "its user had it as a block device");
    }
}
