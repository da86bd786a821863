//! A volume of this driver as LVM has it now.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::classes::Classes;
use crate::csi::volume_facts::{Content, VolumeFacts};
use crate::error::{Error, Result};
use crate::host::kernel::MappedDevice;
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::tags::VolumeTags;
use crate::lvm::tags::copy_source::CopySourceTags;
use crate::node::placement::{ensure_writable, why_not_ours};

/// A logical volume that carries our tags.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The group it is in.
    pub group: Arc<VolumeGroup>,
    /// The logical volume.
    pub logical: Arc<LogicalVolume>,
    /// What its tags say.
    pub tags: VolumeTags,
}

impl Volume {
    /// The volume if it is ours. What a try that broke off leaves in a pool is none yet.
    pub fn of(group: &Arc<VolumeGroup>, logical: &Arc<LogicalVolume>) -> Option<Self> {
        let tags = VolumeTags::parse(&logical.tags).filter(|_| !logical.is_unsent())?;
        Some(Self { group: Arc::clone(group), logical: Arc::clone(logical), tags })
    }

    /// All volumes of ours, those being deleted included, by name.
    pub fn all(view: &View) -> Vec<Self> {
        let mut volumes: Vec<Self> = view.groups.iter().flat_map(Self::in_group).collect();
        volumes.sort_by(|left, right| left.logical.name.cmp(&right.logical.name));
        volumes
    }

    /// Those of ours in groups that are not there any more or cannot be used, as they were last.
    pub fn out_of_reach(view: &View) -> Vec<Self> {
        let unusable = view.unusable.iter().flat_map(|unusable| &unusable.told);
        view.vanished.iter().chain(unusable).flat_map(Self::in_group).collect()
    }

    /// Those of ours in a group.
    pub fn in_group(group: &Arc<VolumeGroup>) -> impl Iterator<Item = Self> {
        group.logical_volumes.iter().filter_map(|logical| Self::of(group, logical))
    }

    /// The volume of that logical name, being deleted or not. Two of them cannot be told apart by an id,
    /// so nothing is done to either.
    pub fn find(view: &View, logical_name: &str) -> Result<Option<Self>> {
        let mut found = view.logical_volumes(logical_name).filter_map(|(group, volume)| Self::of(group, volume));
        let first = found.next();
        if let (Some(first), Some(second)) = (&first, found.next()) {
            return Err(Error::precondition(format!(
                "logical volume {logical_name} exists in volume group {} and in {}; rename one of them",
                first.group.name, second.group.name
            )));
        }
        Ok(first)
    }

    /// Its size, bytes.
    pub fn bytes(&self) -> u64 {
        self.logical.extents * self.group.extent_bytes
    }

    /// What a list tells of it, where these classes are in force.
    pub fn facts(&self, classes: &Classes) -> VolumeFacts {
        let tags = &self.tags;
        let file_system = tags.file_system.clone().map(Content::FileSystem);
        VolumeFacts {
            name: Some(tags.name.clone()),
            class: (!tags.class.is_empty()).then(|| tags.class.clone()),
            claim: tags.claim.clone(),
            created: self.logical.created,
            content: if tags.block { Some(Content::Block) } else { file_system },
            never_used: tags.is_unused(),
            single_user: tags.single_user,
            uuid: Some(self.logical.uuid.clone()),
            usable: Some(why_not_ours(&self.group).is_none()),
            in_default_class: classes.default_class().is_some_and(|class| class.name == tags.class),
            driver: tags.driver.clone(),
        }
    }

    /// `group/volume`, as lvm's own messages write it.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.group.name, self.logical.name)
    }

    /// That its group is this machine's to use; lvm would refuse even to activate it.
    pub fn ensure_usable(&self) -> Result<()> {
        let refused =
            |reason| Error::precondition(format!("volume group {} cannot be used: {reason}", self.group.name));
        why_not_ours(&self.group).map_or(Ok(()), |reason| Err(refused(reason)))
    }

    /// That its group takes changes. lvm would refuse every one; this says why in words that help.
    pub fn ensure_writable(&self) -> Result<()> {
        ensure_writable(&self.group)
    }

    /// That no snapshot hangs on it but such as are being deleted: with one it cannot be `done` this to.
    pub fn ensure_no_snapshot(&self, done: &str) -> Result<()> {
        let is_going = |logical: &&Arc<LogicalVolume>| {
            VolumeTags::parse(&logical.tags).is_some_and(|tags| tags.deleting.is_some())
        };
        let Some(snapshot) = self.snapshots().find(|logical| !is_going(logical)) else { return Ok(()) };
        if let Some(tags) = CopySourceTags::parse(&snapshot.tags) {
            let (volume, copy) = (self.full_name(), tags.copy);
            return Err(Error::precondition(format!("volume {volume} is not {done} while it is copied to {copy}")));
        }
        Err(Error::precondition(format!(
            "volume {} is not {done} while logical volume {}/{} is a snapshot of it; delete the snapshot first",
            self.full_name(),
            self.group.name,
            snapshot.name
        )))
    }

    /// The snapshots that hang on it: they would go with it, or be filled by its wipe.
    pub fn snapshots(&self) -> impl Iterator<Item = &Arc<LogicalVolume>> {
        self.group.snapshots_of(&self.logical.name)
    }

    /// Whether it is what is left of a thick snapshot, as long as that hangs on its volume: its device shows the volume then.
    pub fn is_thick_snapshot(&self) -> bool {
        self.logical.thin.is_none() && !self.logical.snapshot_of.is_empty()
    }

    /// The thin pool it is in.
    pub fn pool(&self) -> Option<&Arc<LogicalVolume>> {
        self.group.pool_of(&self.logical)
    }

    /// Whether what was never written to it reads as zeroes, whoever had the disk before: its pool sees to that.
    pub fn is_zeroed(&self) -> bool {
        let pool = self.pool().filter(|_| !self.logical.has_external_origin());
        pool.and_then(|pool| pool.pool.as_ref()).is_some_and(|pool| pool.zeroes)
    }

    /// Its device among the mapped ones; `None` while it is not active.
    pub fn device<'d>(&self, devices: &'d [MappedDevice]) -> Option<&'d MappedDevice> {
        let uuid = self.logical.mapper_uuid(&self.group);
        devices.iter().find(|device| device.uuid == uuid)
    }
}

/// The device node of a mapped device; devtmpfs has it as soon as the device exists.
pub fn device_path(device: &MappedDevice) -> PathBuf {
    PathBuf::from(format!("/dev/dm-{}", device.number.minor))
}
