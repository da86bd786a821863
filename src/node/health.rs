//! Health of volumes and of the node's storage, from what LVM, device-mapper and the mount table say.

use crate::error::Result;
use crate::host::kernel::{MappedDevice, MountEntry, Stretch};
use crate::host::superblock;
use crate::node::Node;
use crate::node::device::{is_read_only, mounts_of};
use crate::node::placement::why_unwritable;
use crate::node::volume::{Volume, device_path};

/// Bytes read to see what a file system says of itself.
const HEAD_BYTES: u64 = 128 << 10;

/// How the file systems show that they take no writes any more although their mount does; since Linux 6.12 ext4
/// has words of its own for it.
const SHUT_BY_ERRORS: [&str; 3] = ["ro", "emergency_ro", "shutdown"];

/// How bad a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It works, but something is wrong.
    Degraded,
    /// It cannot be used now.
    Inaccessible,
}

/// Something that is wrong, until it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in one word for programs.
    pub reason: &'static str,
    /// What it is and what to do, for people.
    pub message: String,
}

impl Node {
    /// What is wrong with a volume; nothing when it is healthy.
    pub async fn volume_health(&self, volume: &Volume) -> Result<Vec<Condition>> {
        let (device, mounts) = (self.active_device(volume).await?, self.mounts().await?);
        self.health_of(volume, device.as_ref(), &mounts).await
    }

    async fn health_of(
        &self,
        volume: &Volume,
        device: Option<&MappedDevice>,
        mounts: &[MountEntry],
    ) -> Result<Vec<Condition>> {
        let mut conditions = conditions(volume, device, mounts);
        if let Some(device) = device.filter(|device| !device.suspended && volume.tags.file_system.is_some()) {
            conditions.extend(self.recorded_errors(volume, device).await);
        }
        Ok(conditions)
    }

    /// That a volume which its user should see at a path is not active.
    pub(super) async fn inactive(&self, volume: &Volume, path: &str) -> Result<Option<Condition>> {
        let is_active = self.active_device(volume).await?.is_some();
        Ok((!is_active).then(|| Condition {
            severity: Severity::Inaccessible,
            reason: "LogicalVolumeInactive",
            message: format!("{} should be at {path} but is not active", volume.full_name()),
        }))
    }

    /// What is wrong with all volumes that are not healthy.
    pub async fn unhealthy(&self, volumes: &[Volume]) -> Result<Vec<(Volume, Vec<Condition>)>> {
        let (devices, mounts) = (self.mapped_devices().await?, self.mounts().await?);
        let mut unhealthy = Vec::new();
        for volume in volumes {
            let conditions = self.health_of(volume, volume.device(&devices), &mounts).await?;
            if !conditions.is_empty() {
                unhealthy.push((volume.clone(), conditions));
            }
        }
        Ok(unhealthy)
    }

    /// What is wrong with the groups that the classes use.
    pub async fn storage_health(&self) -> Result<Vec<Condition>> {
        let snapshot = self.groups.read().await?;
        let classes = self.classes.current();
        let partial = snapshot.groups.iter().filter(|group| classes.use_group(&group.name) && group.is_partial());
        let mut conditions: Vec<Condition> = partial
            .map(|group| Condition {
                severity: Severity::Degraded,
                reason: "PhysicalVolumeMissing",
                message: format!("volume group {} lacks physical volumes; attach their disks", group.name),
            })
            .collect();
        let used = snapshot.groups.iter().filter(|group| classes.use_group(&group.name) && !group.is_partial());
        conditions.extend(used.filter_map(|group| {
            Some(Condition {
                severity: Severity::Degraded,
                reason: "VolumeGroupUnwritable",
                message: format!("volume group {} cannot be changed: {}", group.name, why_unwritable(group)?),
            })
        }));
        let unusable = snapshot.unusable.iter().filter(|unusable| classes.use_group(&unusable.name));
        conditions.extend(unusable.map(|unusable| Condition {
            severity: Severity::Inaccessible,
            reason: "VolumeGroupUnusable",
            message: format!("volume group {}: {}", unusable.name, unusable.reason),
        }));
        let vanished = snapshot.vanished.iter().filter(|group| classes.use_group(&group.name));
        conditions.extend(vanished.map(|group| Condition {
            severity: Severity::Inaccessible,
            reason: "VolumeGroupMissing",
            message: format!("volume group {} is not there any more; attach its disks", group.name),
        }));
        Ok(conditions)
    }

    /// ext4 notes in its superblock that it met errors.
    async fn recorded_errors(&self, volume: &Volume, device: &MappedDevice) -> Option<Condition> {
        let length = HEAD_BYTES.min(volume.bytes());
        let stretch = Stretch { device: device_path(device), offset: 0, length };
        match self.kernel.read(vec![stretch]).await.pop()? {
            Ok(head) => superblock::recognise(&head).filter(|found| found.has_errors).map(|_| Condition {
                severity: Severity::Degraded,
                reason: "FileSystemErrors",
                message: format!("the file system of {} met errors; unmount it and run fsck", volume.full_name()),
            }),
            Err(error) => Some(Condition {
                severity: Severity::Inaccessible,
                reason: "ReadFailed",
                message: format!("{} cannot be read: {error}", volume.full_name()),
            }),
        }
    }
}

/// What LVM, device-mapper and the mount table say is wrong with a volume.
pub fn conditions(volume: &Volume, device: Option<&MappedDevice>, mounts: &[MountEntry]) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let name = volume.full_name();
    let is_missing = |pv: &&crate::lvm::model::PhysicalVolume| {
        pv.device.is_none() && volume.logical.on_physical_volumes.contains(&pv.name)
    };
    if let Some(missing) = volume.group.physical_volumes.iter().find(is_missing) {
        conditions.push(Condition {
            severity: Severity::Inaccessible,
            reason: "PhysicalVolumeMissing",
            message: format!("physical volume {} with data of {name} is missing; attach its disk", missing.uuid),
        });
    }
    let Some(device) = device else { return conditions };
    if device.suspended {
        conditions.push(Condition {
            severity: Severity::Inaccessible,
            reason: "LogicalVolumeSuspended",
            message: format!("{name} is suspended; run lvchange --refresh {name}"),
        });
    }
    let mounts = mounts_of(mounts, device);
    let is_shut = |option: &String| SHUT_BY_ERRORS.contains(&option.as_str());
    let turned_read_only = mounts.iter().find(|mount| !is_read_only(mount) && mount.super_options.iter().any(is_shut));
    if let Some(mount) = turned_read_only {
        conditions.push(Condition {
            severity: Severity::Degraded,
            reason: "FileSystemReadOnly",
            message: format!("the file system at {} turned read-only; see the kernel's log", mount.target.display()),
        });
    }
    conditions
}
