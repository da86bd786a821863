//! The calls of a scenario.

use quarry::csi::v1::VolumeCapability;
use quarry::csi::v1::volume_capability::access_mode::Mode;
use quarry::csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use quarry::lvm::names::{group_snapshot_name, snapshot_name};
use tonic::Code;

/// How a volume is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Mount,
    MountReadOnly,
    Block,
}

/// What a volume is a copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Snapshot(&'static str),
    Volume(&'static str),
}

/// A call; volumes, snapshots and targets by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Volume, class, extents.
    Create(&'static str, &'static str, usize),
    /// The same, where there is no room for it.
    CreateTooLarge(&'static str, &'static str, usize),
    /// A copy: volume, class, extents, of what.
    Copy(&'static str, &'static str, usize, From),
    /// The same, where there is no room for it.
    CopyTooLarge(&'static str, &'static str, usize, From),
    /// Snapshot, volume.
    Snapshot(&'static str, &'static str),
    DeleteSnapshot(&'static str),
    /// Group snapshot, volumes.
    GroupSnapshot(&'static str, &'static [&'static str]),
    DeleteGroupSnapshot(&'static str),
    Stage(&'static str, Use),
    /// Volume, target.
    Publish(&'static str, &'static str, Use),
    /// The user at a target writes data, and later something else over it.
    Write(&'static str),
    Overwrite(&'static str),
    /// The user at a target writes so many quarters of an extent, over what may be there, but for what was written above.
    Fill(&'static str, usize),
    /// The same, and snapshots have no room for what they held.
    Overfill(&'static str, usize),
    /// So many blocks of the metadata of the pool of a volume come into use.
    FillMetadata(&'static str, usize),
    Grow(&'static str, usize),
    GrowMounted(&'static str, &'static str, usize),
    Unpublish(&'static str, &'static str),
    Unstage(&'static str),
    Delete(&'static str),
    /// The same, of what kubelet has staged and knows nothing of any more.
    DeleteForgotten(&'static str),
    /// Where it is not allowed now.
    DeleteRefused(&'static str),
}

impl Use {
    pub(crate) fn capability(self) -> VolumeCapability {
        let access_type = match self {
            Self::Block => AccessType::Block(BlockVolume {}),
            Self::Mount | Self::MountReadOnly => AccessType::Mount(MountVolume::default()),
        };
        let access_mode = AccessMode { mode: Mode::SingleNodeWriter.into() };
        VolumeCapability { access_type: Some(access_type), access_mode: Some(access_mode) }
    }

    pub(crate) fn is_read_only(self) -> bool {
        self == Self::MountReadOnly
    }
}

impl Call {
    /// The answer that ends it.
    pub(crate) fn expected(self) -> Code {
        match self {
            Self::CreateTooLarge(..) | Self::CopyTooLarge(..) => Code::ResourceExhausted,
            Self::DeleteRefused(_) => Code::FailedPrecondition,
            _ => Code::Ok,
        }
    }

    /// The logical volume that it is about.
    pub(crate) fn logical_name(self) -> String {
        match self {
            Self::Create(name, ..)
            | Self::CreateTooLarge(name, ..)
            | Self::Copy(name, ..)
            | Self::CopyTooLarge(name, ..)
            | Self::Stage(name, _)
            | Self::Publish(name, ..)
            | Self::Grow(name, _)
            | Self::GrowMounted(name, ..)
            | Self::Unpublish(name, _)
            | Self::Unstage(name)
            | Self::Delete(name)
            | Self::DeleteForgotten(name)
            | Self::DeleteRefused(name) => name.to_owned(),
            Self::Snapshot(name, _) | Self::DeleteSnapshot(name) => snapshot_name(name),
            Self::GroupSnapshot(name, _) | Self::DeleteGroupSnapshot(name) => group_snapshot_name(name),
            Self::Write(_) | Self::Overwrite(_) | Self::Fill(..) | Self::Overfill(..) | Self::FillMetadata(..) => {
                String::new()
            }
        }
    }
}
