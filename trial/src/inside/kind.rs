//! The kinds of volumes that trials use, and what is asked for them.

use quarry::csi::v1;
use serde::{Deserialize, Serialize};

use crate::client;

/// Bytes of an extent of the trials' volume group: LVM's default.
pub const EXTENT: u64 = 4 << 20;

/// The thin pool of the class `thin`.
pub const POOL: &str = "quarry-thin";
/// How large it is made: so small that it grows again and again.
const POOL_SIZE: &str = "64MiB";
/// Its pieces: so large that a few writes fill it.
const POOL_CHUNK: &str = "1MiB";
/// Per cent of it that are in use when it grows.
pub const POOL_GROWS_AT: u64 = 50;

/// The thick classes, by how they wipe.
const ZERO: &str = "zero";
const DISCARD: &str = "discard";
const NONE: &str = "none";

/// How a volume is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Ext4,
    Xfs,
    Btrfs,
    Block,
    ThinExt4,
    ThinBlock,
}

impl Kind {
    pub fn is_block(self) -> bool {
        matches!(self, Self::Block | Self::ThinBlock)
    }

    /// Whether it lies in the thin pool.
    pub fn is_thin(self) -> bool {
        matches!(self, Self::ThinExt4 | Self::ThinBlock)
    }

    /// Whether it is so large that many of them would be most of a trial.
    pub fn is_large(self) -> bool {
        matches!(self, Self::Xfs | Self::Btrfs)
    }

    /// What a volume of this kind can be copied to, in its own layout first; large ones stay in it.
    pub fn copies(self) -> [Self; 2] {
        match self {
            Self::Ext4 => [Self::Ext4, Self::ThinExt4],
            Self::ThinExt4 => [Self::ThinExt4, Self::Ext4],
            Self::Block => [Self::Block, Self::ThinBlock],
            Self::ThinBlock => [Self::ThinBlock, Self::Block],
            Self::Xfs | Self::Btrfs => [self, self],
        }
    }

    /// How the node is told.
    pub fn capability(self) -> v1::VolumeCapability {
        match self {
            Self::Ext4 | Self::ThinExt4 => client::mounted("ext4"),
            Self::Xfs => client::mounted("xfs"),
            Self::Btrfs => client::mounted("btrfs"),
            Self::Block | Self::ThinBlock => client::block(),
        }
    }

    /// The smallest size that is asked for: room for the file system and some records.
    pub fn least_bytes(self) -> u64 {
        match self {
            Self::Ext4 | Self::ThinExt4 => 16 << 20,
            Self::Xfs => 304 << 20,
            Self::Btrfs => 256 << 20,
            Self::Block | Self::ThinBlock => 4 << 20,
        }
    }

    /// The class: large volumes are not wiped with zeroes, since that would be most of a trial.
    fn class(self) -> &'static str {
        match self {
            Self::Ext4 => ZERO,
            Self::Block => DISCARD,
            Self::Xfs | Self::Btrfs => NONE,
            Self::ThinExt4 | Self::ThinBlock => "thin",
        }
    }

    /// A request for a volume of this kind with at least `bytes`, and at most `limit` unless that is 0.
    pub fn create(self, name: &str, bytes: u64, limit: u64) -> v1::CreateVolumeRequest {
        let mut request = client::create(name, signed(bytes), self.capability());
        request.capacity_range = range(bytes, limit);
        request.parameters = client::class(self.class());
        request
    }
}

/// The room of thick snapshots: so much that none is ever full, or so little that it grows again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserves {
    Whole,
    Small,
}

impl Reserves {
    /// What a class says of it. Large volumes write much at once, such as a whole part of xfs's log when it is mounted after a
    /// crash: a snapshot that was lost for want of room would be right, but nothing to check.
    fn of(self, class: &str) -> &'static str {
        match self {
            Self::Whole => "snapshotReserve: 100%",
            Self::Small if class == NONE => "snapshotReserve: 12MiB, copyRate: 128MiB",
            Self::Small => "snapshotReserve: 4MiB, copyRate: 8MiB",
        }
    }
}

/// The classes file that [`Kind::create`] counts on.
pub fn classes_file(group: &str, reserves: Reserves) -> String {
    let class = |name: &str| {
        let reserve = reserves.of(name);
        let default = name == ZERO;
        format!("- {{name: {name}, volumeGroups: [{group}], wipe: {name}, default: {default}, {reserve}}}\n")
    };
    // Copies are slow enough that the pool grows before they have filled it.
    let thin = format!(
        "- name: thin\n  volumeGroups: [{group}]\n  layout: thin\n  copyRate: 8MiB\n  \
         thinPool: {{name: {POOL}, size: {POOL_SIZE}, chunkSize: {POOL_CHUNK}, overcommit: 80, \
         growAt: {POOL_GROWS_AT}%, growBy: 50%}}\n"
    );
    format!("classes:\n{}{}{}{thin}", class(ZERO), class(DISCARD), class(NONE))
}

/// A capacity range.
pub fn range(required: u64, limit: u64) -> Option<v1::CapacityRange> {
    Some(v1::CapacityRange { required_bytes: signed(required), limit_bytes: signed(limit) })
}

/// What a volume of so many bytes gets.
pub fn rounded(bytes: u64) -> u64 {
    bytes.div_ceil(EXTENT) * EXTENT
}

/// A size as CSI writes it.
pub fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A size that CSI wrote; a negative one becomes 0, which no answer may be.
pub fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or_default()
}
