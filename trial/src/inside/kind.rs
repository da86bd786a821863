//! The kinds of volumes that trials use, and what is asked for them.

use std::collections::HashMap;

use quarry::csi::v1;
use serde::{Deserialize, Serialize};

use crate::client;

/// Bytes of an extent of the trials' volume group: LVM's default.
pub const EXTENT: u64 = 4 << 20;

/// How a volume is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Ext4,
    Xfs,
    Btrfs,
    Block,
}

impl Kind {
    pub fn is_block(self) -> bool {
        self == Self::Block
    }

    /// How the node is told.
    pub fn capability(self) -> v1::VolumeCapability {
        match self {
            Self::Ext4 => client::mounted("ext4"),
            Self::Xfs => client::mounted("xfs"),
            Self::Btrfs => client::mounted("btrfs"),
            Self::Block => client::block(),
        }
    }

    /// The smallest size that is asked for: room for the file system and some records.
    pub fn least_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 16 << 20,
            Self::Xfs => 304 << 20,
            Self::Btrfs => 256 << 20,
            Self::Block => 4 << 20,
        }
    }

    /// The class: large volumes are not wiped with zeroes, since that would be most of a trial.
    fn class(self) -> &'static str {
        match self {
            Self::Ext4 => "zero",
            Self::Block => "discard",
            Self::Xfs | Self::Btrfs => "none",
        }
    }

    /// A request for a volume of this kind with at least `bytes`, and at most `limit` unless that is 0.
    pub fn create(self, name: &str, bytes: u64, limit: u64) -> v1::CreateVolumeRequest {
        let mut request = client::create(name, signed(bytes), self.capability());
        request.capacity_range = range(bytes, limit);
        request.parameters = HashMap::from([(String::from("class"), String::from(self.class()))]);
        request
    }
}

/// The classes file that [`Kind::create`] counts on.
pub fn classes_file(group: &str) -> String {
    let class = |name: &str| format!("- name: {name}\n  volumeGroups: [{group}]\n  wipe: {name}\n");
    format!("classes:\n{}  default: true\n{}{}", class("zero"), class("discard"), class("none"))
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
