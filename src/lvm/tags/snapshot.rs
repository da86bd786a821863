//! What is remembered about a snapshot.

use super::content::Content;
use super::{
    BYTES, CLASS, DRIVER, KIND_INCOMPLETE, KIND_SNAPSHOT, NAME, SOURCE, VolumeTags, driver_tag, escape, is_gone,
    source_tag, split, take, unescape,
};

/// Set on a snapshot of a thick volume of which more was overwritten than its room holds: what it held is gone for good.
pub const LOST: &str = "quarry.lost";

const GROUP: &str = "quarry.group=";
const BESIDE: &str = "quarry.beside=";
const TAKEN: &str = "quarry.taken=";

/// What the tags of a snapshot say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotTags {
    /// The name that the CSI request gave it; at most 128 bytes.
    pub name: String,
    /// The logical volume that it is a snapshot of; that may be gone.
    pub source: String,
    /// The class of that volume.
    pub class: String,
    /// What is on it.
    pub content: Content,
    /// The name of the driver that made it.
    pub driver: Option<String>,
    /// Bytes of the volume then, where the logical volume itself does not tell: a thick one's holds only what changed.
    pub bytes: Option<u64>,
    /// The name of the group snapshot that it is of.
    pub group: Option<String>,
    /// UUIDs of the other volume groups that this group snapshot is in: while one of them is not there, nobody can say whether it is
    /// whole.
    pub beside: Vec<String>,
    /// When what it holds was there, seconds since 1970, where that is not when the logical volume was made.
    pub taken: Option<u64>,
    /// Whether what it held is gone.
    pub lost: bool,
}

impl SnapshotTags {
    /// Of a snapshot of that name of a volume.
    pub fn of_volume(name: &str, logical_name: &str, volume: &VolumeTags, driver: &str) -> Self {
        Self {
            name: name.to_owned(),
            source: logical_name.to_owned(),
            class: volume.class.clone(),
            content: Content::of(volume),
            driver: Some(driver.to_owned()),
            ..Self::default()
        }
    }

    /// The tags that say all this.
    pub fn to_tags(&self) -> Vec<String> {
        self.to_tags_of(KIND_SNAPSHOT)
    }

    /// Those of one that is not whole yet.
    pub fn to_incomplete_tags(&self) -> Vec<String> {
        self.to_tags_of(KIND_INCOMPLETE)
    }

    fn to_tags_of(&self, kind: &str) -> Vec<String> {
        let mut tags = vec![kind.to_owned(), format!("{NAME}{}", escape(&self.name)), source_tag(&self.source)];
        if !self.class.is_empty() {
            tags.push(format!("{CLASS}{}", escape(&self.class)));
        }
        tags.extend(self.content.to_tags());
        tags.extend(self.driver.as_deref().map(driver_tag));
        tags.extend(self.bytes.map(|bytes| format!("{BYTES}{bytes}")));
        tags.extend(self.group.as_ref().map(|group| format!("{GROUP}{}", escape(group))));
        tags.extend(self.beside.iter().map(|uuid| format!("{BESIDE}{uuid}")));
        tags.extend(self.taken.map(taken_tag));
        tags.extend(self.lost.then(|| String::from(LOST)));
        tags
    }

    /// What the tags of a logical volume say; `None` when it is no snapshot of ours.
    pub fn parse(tags: &[String]) -> Option<Self> {
        Self::parse_of(KIND_SNAPSHOT, tags)
    }

    /// The same of one that is not whole yet.
    pub fn parse_incomplete(tags: &[String]) -> Option<Self> {
        Self::parse_of(KIND_INCOMPLETE, tags)
    }

    fn parse_of(kind: &str, tags: &[String]) -> Option<Self> {
        (tags.iter().any(|tag| tag == kind) && !is_gone(tags)).then_some(())?;
        // Lists read thousands of these, so all fields in one pass.
        let mut snapshot = Self::default();
        let (mut name, mut source, mut class) = (None, None, None);
        for tag in tags {
            let (key, value) = split(tag);
            match key {
                NAME => take(&mut name, unescape(value)),
                SOURCE => take(&mut source, unescape(value)),
                CLASS => take(&mut class, unescape(value)),
                DRIVER => take(&mut snapshot.driver, unescape(value)),
                BYTES => take(&mut snapshot.bytes, value.parse().ok()),
                GROUP => take(&mut snapshot.group, unescape(value)),
                BESIDE => snapshot.beside.push(value.to_owned()),
                TAKEN => take(&mut snapshot.taken, value.parse().ok()),
                LOST => snapshot.lost = true,
                _ => snapshot.content.read(key, value),
            }
        }
        Some(Self { name: name?, source: source?, class: class.unwrap_or_default(), ..snapshot })
    }
}

/// The tag that says when what a snapshot holds was there, seconds since 1970.
pub fn taken_tag(seconds: u64) -> String {
    format!("{TAKEN}{seconds}")
}

#[cfg(test)]
mod tests {
    use super::super::{Claim, CopiedFrom, TAG_LIMIT};
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_is_no_volume() {
        let volume = VolumeTags {
            name: String::from("pvc-1"),
            class: String::from("fast"),
            file_system: Some(String::from("xfs")),
            claim: Some(Claim { namespace: String::from("shop"), name: String::from("data") }),
            ..VolumeTags::default()
        };
        let snapshot = SnapshotTags::of_volume("snäp 1", "pvc-1", &volume, "lvm.quarry.storage");
        let tags = snapshot.to_tags();
        assert!(tags.iter().all(|tag| tag.len() <= TAG_LIMIT));
        assert_eq!(SnapshotTags::parse(&tags), Some(snapshot.clone()));
        assert_eq!(VolumeTags::parse(&tags), None);
        assert_eq!(SnapshotTags::parse(&volume.to_tags()), None);
        assert_eq!(snapshot.content, Content::of(&volume));
        let copy = VolumeTags { name: String::from("c"), ..snapshot.content.of_copy("snap-1") };
        assert_eq!(VolumeTags::parse(&copy.to_tags()), Some(copy));
    }

    #[test]
    fn of_a_tag_that_stands_there_twice_the_last_that_can_be_read_counts() {
        let volume = VolumeTags {
            name: String::from("n"),
            class: String::from("c"),
            file_system: Some(String::from("xfs")),
            mkfs_options: vec![String::from("-i")],
            claim: Some(Claim { namespace: String::from("n"), name: String::from("c") }),
            driver: Some(String::from("d")),
            copied: Some(CopiedFrom { source: String::from("s"), ..CopiedFrom::default() }),
            ..VolumeTags::default()
        };
        let (bytes, group, taken) = (Some(1), Some(String::from("g")), Some(2));
        let snapshot = SnapshotTags { bytes, group, taken, ..SnapshotTags::of_volume("s", "pvc-1", &volume, "d") };
        let keys = ["name", "source", "class", "driver", "bytes", "taken", "group", "fs", "mkfs", "pvc"];
        let with = |value: &str| keys.map(|key| format!("quarry.{key}={value}")).to_vec();
        let around = |tags: Vec<String>| [with("other"), with("7/7"), with("8"), tags, with(":zz"), with(":")].concat();
        assert_eq!(SnapshotTags::parse(&around(snapshot.to_tags())), Some(snapshot));
        assert_eq!(VolumeTags::parse(&around(volume.to_tags())), Some(volume));
    }

    #[test]
    fn one_of_a_group_is_no_snapshot_before_it_is_whole() {
        let snapshot = SnapshotTags {
            group: Some(String::from("grüppe 1")),
            beside: vec![String::from("nmNUBz-LVWv-bRHT-f5HO-F5bs-uGAU-nElsif"), String::from("other")],
            taken: Some(1_795_680_000),
            lost: true,
            ..SnapshotTags::of_volume("grüppe 1", "pvc-1", &VolumeTags::default(), "d")
        };
        let tags = snapshot.to_incomplete_tags();
        assert_eq!(SnapshotTags::parse_incomplete(&tags).as_ref(), Some(&snapshot));
        assert_eq!((SnapshotTags::parse(&tags), VolumeTags::parse(&tags)), (None, None));
        assert_eq!(SnapshotTags::parse(&snapshot.to_tags()), Some(snapshot.clone()));
        assert_eq!(SnapshotTags::parse_incomplete(&snapshot.to_tags()), None);
    }
}
