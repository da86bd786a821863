//! What is remembered about a volume, as tags of its logical volume. Nothing is stored anywhere else.
//!
//! LVM allows `A-Za-z0-9_+.-/=!:&#` in a tag; every value is escaped to letters, digits, `.`, `_`, `-` and
//! `:` followed by two hexadecimal digits for any other byte.

pub mod content;
pub mod copy_progress;
pub mod copy_source;
pub mod snapshot;

use self::copy_progress::CopyProgress;
use crate::lvm::names::hexadecimal;
use crate::lvm::wipe::Wipe;

/// Marks a logical volume as a volume of this driver. Without it nothing here is ours.
pub const KIND_VOLUME: &str = "quarry.kind=volume";

/// Marks a thin pool that this driver made.
pub const KIND_POOL: &str = "quarry.kind=pool";

/// Marks a logical volume as a snapshot of this driver.
pub const KIND_SNAPSHOT: &str = "quarry.kind=snapshot";

/// Marks a snapshot of a group that is not whole yet: nobody gets it before. A kind of its own, so that older versions pass
/// over it.
pub const KIND_INCOMPLETE: &str = "quarry.kind=incomplete-snapshot";

/// Marks what a volume that is in use is copied from, for as long as that takes; nobody else ever sees it.
pub const KIND_COPY_SOURCE: &str = "quarry.kind=copy-source";

/// Set on a copy whose file system still has the UUID of what it was copied from, until its first mount.
pub const SAME_UUID: &str = "quarry.same-uuid";
/// Its xfs is being given another UUID, which writes all of its log anew; what it held is in its place since before. Holds a cycle
/// that the log had not come to yet.
pub const RENEWING_FROM: &str = "quarry.renewing-uuid=";

/// Set on a copy of which not all is copied yet: nobody gets it before.
pub const UNFINISHED: &str = "quarry.unfinished";

/// Set on a copy that is as large as its source but not as large as it shall be: nobody gets it before.
pub const UNGROWN: &str = "quarry.ungrown";

/// Set when a new, empty logical volume is made, cleared for good before its first mount. Only with it
/// may a volume be formatted.
pub const FRESH: &str = "quarry.fresh";

/// Set before the volume is first published as a raw block device: what is on it is its user's, whether it
/// looks like a file system or not.
pub const BLOCK: &str = "quarry.block";

/// Set at the making of a volume that only one user at a time may have: its claim takes no other volume.
pub const SINGLE_USER: &str = "quarry.single-user";

const NAME: &str = "quarry.name=";
const CLASS: &str = "quarry.class=";
const DELETING: &str = "quarry.deleting=";
const FILE_SYSTEM: &str = "quarry.fs=";
const MKFS_OPTIONS: &str = "quarry.mkfs=";
const CLAIM: &str = "quarry.pvc=";
const DRIVER: &str = "quarry.driver=";
const SOURCE: &str = "quarry.source=";
const BYTES: &str = "quarry.bytes=";

/// Set on a thin volume or snapshot before its pool is told to forget it: nobody's any more, whatever its other tags say, and only to be
/// removed.
pub const GONE: &str = "quarry.gone";

/// Whether it is only to be removed.
pub fn is_gone(tags: &[String]) -> bool {
    tags.iter().any(|tag| tag == GONE)
}

/// The cycle from which the log of an xfs goes on, if one was begun to be given another UUID.
pub fn renewing_from(tags: &[String]) -> Option<u32> {
    tags.iter().find_map(|tag| tag.strip_prefix(RENEWING_FROM)?.parse().ok())
}

/// All the tags that say so, also one of a cycle that is not understood.
pub fn renewing_tags(tags: &[String]) -> impl Iterator<Item = &String> {
    tags.iter().filter(|tag| tag.starts_with(RENEWING_FROM))
}

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
    /// The claim it was made for, where the request named one. Never needed to serve it: for people, and to name it again
    /// in a cluster that has forgotten it.
    pub claim: Option<Claim>,
    /// Whether it was asked for as one that only one user at a time may have.
    pub single_user: bool,
    /// The name of the driver that made it: several may serve one machine. Older versions did not write it.
    pub driver: Option<String>,
    /// What it was copied from.
    pub copied: Option<CopiedFrom>,
}

/// Where what is on a volume comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopiedFrom {
    /// The logical volume, a volume or a snapshot; it may be gone by now.
    pub source: String,
    /// Whether its file system still has the UUID of its source's.
    pub same_uuid: bool,
    /// Whether not all is copied yet.
    pub unfinished: bool,
    /// Whether it is still to be made larger than its source.
    pub ungrown: bool,
    /// How much of it survives a power cut.
    pub progress: Option<CopyProgress>,
}

/// A `PersistentVolumeClaim`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl CopiedFrom {
    fn parse(source: String, tags: &[String]) -> Self {
        let has = |word: &str| tags.iter().any(|tag| tag == word);
        let [same_uuid, unfinished, ungrown] = [SAME_UUID, UNFINISHED, UNGROWN].map(has);
        Self { source, same_uuid, unfinished, ungrown, progress: CopyProgress::parse(tags) }
    }
}

impl VolumeTags {
    /// The tags that say all this. A claim too long for a tag is left out.
    pub fn to_tags(&self) -> Vec<String> {
        let mut tags = vec![String::from(KIND_VOLUME), name_tag(&self.name)];
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
        if self.single_user {
            tags.push(String::from(SINGLE_USER));
        }
        let claim = self.claim.as_ref().map(claim_tag);
        tags.extend(claim.filter(|tag| tag.len() <= TAG_LIMIT));
        tags.extend(self.driver.as_deref().map(driver_tag));
        if let Some(copied) = &self.copied {
            tags.push(source_tag(&copied.source));
            tags.extend(copied.same_uuid.then(|| String::from(SAME_UUID)));
            tags.extend(copied.unfinished.then(|| String::from(UNFINISHED)));
            tags.extend(copied.ungrown.then(|| String::from(UNGROWN)));
            tags.extend(copied.progress.as_ref().map(CopyProgress::to_tag));
        }
        tags
    }

    /// What the tags of a logical volume say; `None` when it is not ours. Tags that this version does not know
    /// are passed over.
    pub fn parse(tags: &[String]) -> Option<Self> {
        if is_gone(tags) {
            return None;
        }
        let mut volume = Self::default();
        let (mut is_ours, mut name, mut class, mut mkfs_options) = (false, None, None, None);
        for tag in tags {
            let (key, value) = split(tag);
            match key {
                NAME => take(&mut name, unescape(value)),
                CLASS => take(&mut class, unescape(value)),
                // A word of a later version must not weaken the wipe.
                DELETING => volume.deleting = volume.deleting.max(Some(value.parse().unwrap_or(Wipe::Zero))),
                FILE_SYSTEM => take(&mut volume.file_system, unescape(value)),
                MKFS_OPTIONS => take(&mut mkfs_options, unescape(value)),
                CLAIM => take(&mut volume.claim, parse_claim(value)),
                DRIVER => take(&mut volume.driver, unescape(value)),
                SOURCE => take(&mut volume.copied, unescape(value).map(|source| CopiedFrom::parse(source, tags))),
                FRESH => volume.fresh = true,
                BLOCK => volume.block = true,
                SINGLE_USER => volume.single_user = true,
                _ => is_ours |= tag == KIND_VOLUME,
            }
        }
        is_ours.then_some(())?;
        let mkfs_options = mkfs_options.iter().flat_map(|words| words.split_whitespace()).map(String::from).collect();
        Some(Self { name: name?, class: class.unwrap_or_default(), mkfs_options, ..volume })
    }

    /// Whether its file system still has the UUID of what it was copied from.
    pub fn has_same_uuid(&self) -> bool {
        self.copied.as_ref().is_some_and(|copied| copied.same_uuid)
    }

    /// Whether nobody ever had it.
    pub fn is_unused(&self) -> bool {
        self.fresh || self.incomplete().is_some()
    }

    /// What it is a copy of, as long as it is not all there.
    pub fn incomplete(&self) -> Option<&CopiedFrom> {
        self.copied.as_ref().filter(|copied| copied.unfinished || copied.ungrown)
    }
}

/// The tags of a thin pool that a driver made.
pub fn pool_tags(driver: &str) -> Vec<String> {
    vec![String::from(KIND_POOL), driver_tag(driver)]
}

fn driver_tag(driver: &str) -> String {
    format!("{DRIVER}{}", escape(driver))
}

/// Whether the tags say that a driver of that name made it.
pub fn made_by(tags: &[String], driver: &str) -> bool {
    value_of(tags, DRIVER).is_some_and(|maker| maker == driver)
}

/// The tag with the name that a CSI request gave.
pub fn name_tag(name: &str) -> String {
    format!("{NAME}{}", escape(name))
}

/// What stands before the value of a tag, its `=` included, and that; a tag without one stands for itself.
fn split(tag: &str) -> (&str, &str) {
    tag.split_at(tag.find('=').map_or(tag.len(), |end| end + 1))
}

/// Takes the value of a tag. Of one that stands there twice the last that can be read counts: lvm puts new ones at the end.
fn take<T>(field: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *field = value;
    }
}

/// The value of the last tag with that prefix that can be read.
fn value_of(tags: &[String], prefix: &str) -> Option<String> {
    tags.iter().rev().find_map(|tag| unescape(tag.strip_prefix(prefix)?))
}

fn source_tag(source: &str) -> String {
    format!("{SOURCE}{}", escape(source))
}

/// The tag of a volume that is being deleted.
pub fn deleting_tag(wipe: Wipe) -> String {
    format!("{DELETING}{wipe}")
}

/// The tag that says what a volume was formatted with.
pub fn file_system_tag(file_system: &str) -> String {
    format!("{FILE_SYSTEM}{}", escape(file_system))
}

/// All the tags that say so.
pub fn file_system_tags(tags: &[String]) -> impl Iterator<Item = &String> {
    tags.iter().filter(|tag| tag.starts_with(FILE_SYSTEM))
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
    if !escaped.contains(':') {
        return Some(escaped.to_owned());
    }
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
mod tests;
