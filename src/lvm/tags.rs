//! What is remembered about a volume, as tags of its logical volume. Nothing is stored anywhere else.
//!
//! LVM allows `A-Za-z0-9_+.-/=!:&#` in a tag; every value is escaped to letters, digits, `.`, `_`, `-` and
//! `:` followed by two hexadecimal digits for any other byte.

use crate::lvm::names::hexadecimal;
use crate::lvm::wipe::Wipe;

/// Marks a logical volume as a volume of this driver. Without it nothing here is ours.
pub const KIND_VOLUME: &str = "quarry.kind=volume";

/// Set when a new, empty logical volume is made, cleared for good before its first mount. Only with it
/// may a volume be formatted.
pub const FRESH: &str = "quarry.fresh";

/// Set before the volume is first published as a raw block device: what is on it is its user's, whether it
/// looks like a file system or not.
pub const BLOCK: &str = "quarry.block";

const NAME: &str = "quarry.name=";
const CLASS: &str = "quarry.class=";
const DELETING: &str = "quarry.deleting=";
const FILE_SYSTEM: &str = "quarry.fs=";
const MKFS_OPTIONS: &str = "quarry.mkfs=";
const CLAIM: &str = "quarry.pvc=";

/// Longest tag that LVM takes, bytes.
pub const TAG_LIMIT: usize = 1_024;

/// What the tags of a volume say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeTags {
    /// The name that the CSI request gave it; at most 128 bytes.
    pub name: String,
    /// The class it was made in; empty when an admin took the tag away.
    pub class: String,
    /// Whether it is new and empty, so that it may be formatted.
    pub fresh: bool,
    /// Whether it is being deleted, and how its blocks are wiped first.
    pub deleting: Option<Wipe>,
    /// What it was formatted with.
    pub file_system: Option<String>,
    /// Options for mkfs that its request asked for, as words.
    pub mkfs_options: Vec<String>,
    /// Whether it was ever published as a raw block device.
    pub block: bool,
    /// The claim it was made for, where the request named one. For people only.
    pub claim: Option<Claim>,
}

/// A `PersistentVolumeClaim`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl VolumeTags {
    /// The tags that say all this. A claim too long for a tag is left out.
    pub fn to_tags(&self) -> Vec<String> {
        let mut tags = vec![String::from(KIND_VOLUME), format!("{NAME}{}", escape(&self.name))];
        if !self.class.is_empty() {
            tags.push(format!("{CLASS}{}", escape(&self.class)));
        }
        if self.fresh {
            tags.push(String::from(FRESH));
        }
        tags.extend(self.deleting.map(deleting_tag));
        tags.extend(self.file_system.as_deref().map(file_system_tag));
        if !self.mkfs_options.is_empty() {
            tags.push(format!("{MKFS_OPTIONS}{}", escape(&self.mkfs_options.join(" "))));
        }
        if self.block {
            tags.push(String::from(BLOCK));
        }
        let claim = self.claim.as_ref().map(claim_tag);
        tags.extend(claim.filter(|tag| tag.len() <= TAG_LIMIT));
        tags
    }

    /// What the tags of a logical volume say; `None` when it is not ours. Tags that this version does not know
    /// are passed over.
    pub fn parse(tags: &[String]) -> Option<Self> {
        let mut volume = Self::default();
        let (mut is_ours, mut name) = (false, None);
        for tag in tags {
            if let Some(value) = tag.strip_prefix(NAME) {
                name = unescape(value);
            } else if let Some(value) = tag.strip_prefix(CLASS) {
                volume.class = unescape(value).unwrap_or_default();
            } else if let Some(value) = tag.strip_prefix(DELETING) {
                // A word of a later version must not weaken the wipe.
                volume.deleting = volume.deleting.max(Some(value.parse().unwrap_or(Wipe::Zero)));
            } else if let Some(value) = tag.strip_prefix(FILE_SYSTEM) {
                volume.file_system = unescape(value);
            } else if let Some(value) = tag.strip_prefix(MKFS_OPTIONS) {
                let words = unescape(value).unwrap_or_default();
                volume.mkfs_options = words.split_whitespace().map(String::from).collect();
            } else if let Some(value) = tag.strip_prefix(CLAIM) {
                volume.claim = parse_claim(value);
            } else {
                is_ours |= tag == KIND_VOLUME;
                volume.fresh |= tag == FRESH;
                volume.block |= tag == BLOCK;
            }
        }
        is_ours.then_some(())?;
        Some(Self { name: name?, ..volume })
    }
}

/// The tag of a volume that is being deleted.
pub fn deleting_tag(wipe: Wipe) -> String {
    format!("{DELETING}{wipe}")
}

/// The tag that says what a volume was formatted with.
pub fn file_system_tag(file_system: &str) -> String {
    format!("{FILE_SYSTEM}{}", escape(file_system))
}

fn claim_tag(claim: &Claim) -> String {
    format!("{CLAIM}{}/{}", escape(&claim.namespace), escape(&claim.name))
}

fn parse_claim(value: &str) -> Option<Claim> {
    let (namespace, name) = value.split_once('/')?;
    Some(Claim { namespace: unescape(namespace)?, name: unescape(name)? })
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            escaped.push(char::from(byte));
        } else {
            escaped.push(':');
            escaped.push_str(&hexadecimal(&[byte]));
        }
    }
    escaped
}

/// The text that was escaped; `None` for what [`escape`] cannot have written.
fn unescape(escaped: &str) -> Option<String> {
    let mut pieces = escaped.split(':');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(tags: &[&str]) -> Vec<String> {
        tags.iter().map(ToString::to_string).collect()
    }

    fn is_legal(tag: &str) -> bool {
        !tag.is_empty()
            && tag.len() <= TAG_LIMIT
            && !tag.starts_with('-')
            && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+.-/=!:&#".contains(&byte))
    }

    #[test]
    fn the_tags_of_a_volume_are_readable() {
        let volume = VolumeTags {
            name: String::from("pvc-1 ä"),
            class: String::from("fast"),
            fresh: true,
            deleting: Some(Wipe::Zero),
            file_system: Some(String::from("ext4")),
            mkfs_options: vec![String::from("-m"), String::from("0")],
            block: true,
            claim: Some(Claim { namespace: String::from("shop"), name: String::from("data-db-0") }),
        };
        let expected = [
            "quarry.kind=volume",
            "quarry.name=pvc-1:20:c3:a4",
            "quarry.class=fast",
            "quarry.fresh",
            "quarry.deleting=zero",
            "quarry.fs=ext4",
            "quarry.mkfs=-m:200",
            "quarry.block",
            "quarry.pvc=shop/data-db-0",
        ];
        assert_eq!(volume.to_tags(), expected);
        assert_eq!(VolumeTags::parse(&tags(&expected)), Some(volume));
    }

    #[test]
    fn a_volume_without_our_mark_or_without_a_name_is_not_ours() {
        for foreign in [
            &[][..],
            &["quarry.name=a"],
            &["quarry.kind=volume"],
            &["quarry.kind=volume", "quarry.name=:zz"],
            &["quarry.kind=volume", "quarry.name=:c3"],
            &["quarry.kind=volume", "quarry.name=:2"],
            &["quarry.kind=snapshot", "quarry.name=a"],
            &["quarry.kind=volumes", "quarry.name=a"],
            &["QUARRY.KIND=volume", "quarry.name=a"],
        ] {
            assert_eq!(VolumeTags::parse(&tags(foreign)), None, "{foreign:?}");
        }
    }

    #[test]
    fn tags_of_others_and_of_later_versions_change_nothing() {
        let parsed = VolumeTags::parse(&tags(&["backup", "quarry.kind=volume", "quarry.later=1", "quarry.name=a"]));
        assert_eq!(parsed, Some(VolumeTags { name: String::from("a"), ..VolumeTags::default() }));
    }

    #[test]
    fn when_in_doubt_the_more_thorough_wipe_counts() {
        for deleting in [
            &["quarry.deleting=shred"][..],
            &["quarry.deleting=zero", "quarry.deleting=none"],
            &["quarry.deleting=none", "quarry.deleting=zero"],
        ] {
            let all = [tags(&["quarry.kind=volume", "quarry.name=a"]), tags(deleting)].concat();
            assert_eq!(VolumeTags::parse(&all).unwrap().deleting, Some(Wipe::Zero), "{deleting:?}");
        }
    }

    fn any_volume() -> impl Strategy<Value = VolumeTags> {
        // The longest name in bytes has 128 of them; 32 characters of four bytes each are as long as that.
        let text = || proptest::collection::vec(any::<char>(), 0..=32).prop_map(String::from_iter);
        let wipe = proptest::option::of(proptest::sample::select(Wipe::ALL.to_vec()));
        let claim = (text(), text()).prop_map(|(namespace, name)| Claim { namespace, name });
        let texts = (text(), text(), proptest::option::of(text()), proptest::option::of(claim));
        let words = proptest::collection::vec("[a-zA-Z0-9=,-]{1,12}", 0..4);
        (texts, any::<bool>(), wipe, any::<bool>(), words).prop_map(
            |((name, class, file_system, claim), fresh, deleting, block, mkfs_options)| VolumeTags {
                name,
                class,
                fresh,
                deleting,
                file_system,
                mkfs_options,
                block,
                claim,
            },
        )
    }

    proptest! {
        #[test]
        fn everything_reads_back_the_same_in_any_order(volume in any_volume(), turn in 0_usize..8) {
            let mut tags = volume.to_tags();
            let length = tags.len();
            tags.rotate_left(turn % length);
            prop_assert_eq!(VolumeTags::parse(&tags), Some(volume));
        }

        #[test]
        fn every_tag_is_legal_for_lvm(volume in any_volume()) {
            for tag in volume.to_tags() {
                prop_assert!(is_legal(&tag), "{}", tag);
            }
        }

        #[test]
        fn a_claim_of_any_length_makes_no_illegal_tag(name in "\\PC{0,600}") {
            let claim = Some(Claim { namespace: String::from("n"), name });
            for tag in (VolumeTags { claim, ..VolumeTags::default() }).to_tags() {
                prop_assert!(is_legal(&tag), "{}", tag);
            }
        }

        #[test]
        fn no_tags_make_the_parser_panic(mut found in proptest::collection::vec("(quarry\\.(kind|name|class|deleting|fs|pvc)=)?\\PC{0,12}", 0..6)) {
            found.push(String::from(KIND_VOLUME));
            let _ = VolumeTags::parse(&found);
        }
    }
}
