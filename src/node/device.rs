//! The device of a volume: making it appear, and telling which mounts are of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::kernel::{Held, MappedDevice, MountEntry};
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::node::Node;
use crate::node::volume::{Volume, device_path};

/// How often and how long a device that udev may be looking at is waited for.
const SETTLE_TRIES: u32 = 40;
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

impl Node {
    /// The volume's device, activated if it was not, set going again if it was suspended.
    pub(super) async fn activated(&self, volume: &Volume) -> Result<MappedDevice> {
        let found = self.active_device(volume).await?;
        if let Some(device) = found.as_ref().filter(|device| !device.suspended) {
            return Ok(device.clone());
        }
        volume.ensure_usable()?;
        let (group, name) = (&volume.group, &volume.logical.name);
        let turn = self.writer.turn(&group.name).await;
        let activation = self.activation(group, &volume.logical).await?;
        let ran = match found {
            Some(_suspended) => self.writer.refresh(&turn, group, name, activation).await,
            None => self.writer.activate(&turn, group, name, activation).await,
        };
        drop(turn);
        if let Some(device) = self.active_device(volume).await?.filter(|device| !device.suspended) {
            return Ok(device);
        }
        ran?;
        Err(Error::Internal { problem: format!("{} was activated, but has no usable device", volume.full_name()) })
    }

    /// The device of [`Node::activated`], kept from going away, so that what is done by its number is done to this volume.
    pub(super) async fn held(&self, volume: &Volume) -> Result<(MappedDevice, Held)> {
        let device = self.activated(volume).await?;
        let held = self.hold(&device, &volume.full_name()).await?;
        Ok((device, held))
    }

    /// Keeps a device from going away, if it is still the one that was found: between the look and the opening somebody may
    /// have deactivated it, and its number be another one's.
    pub(super) async fn hold(&self, device: &MappedDevice, name: &str) -> Result<Held> {
        let failed = |source| Error::kernel(format!("could not open the device of {name}"), source);
        let held = self.kernel.hold(&device_path(device)).await.map_err(failed)?;
        match self.device_of(&device.uuid).await? {
            Some(now) if now.number == device.number => Ok(held),
            _ => Err(Error::Internal {
                problem: format!("{name} was deactivated by somebody else meanwhile; try again"),
            }),
        }
    }

    /// The device-mapper device of that UUID, if it is there.
    pub(super) async fn device_of(&self, uuid: &str) -> Result<Option<MappedDevice>> {
        let device = self.kernel.mapped_device(uuid).await;
        device.map_err(|source| Error::kernel("could not ask device-mapper", source))
    }

    /// Where the volume's file system is mounted and takes writes; nothing while its device is suspended, where all would wait.
    pub(super) async fn writable_at(&self, group: &VolumeGroup, logical: &LogicalVolume) -> Result<Option<PathBuf>> {
        let device = self.device_of(&logical.mapper_uuid(group)).await?.filter(|device| !device.suspended);
        let Some(device) = device else { return Ok(None) };
        let mounts = self.mounts().await?;
        let shown = mounts.into_iter().find(|mount| shows_file_system(mount, &device) && !is_read_only(mount));
        Ok(shown.map(|mount| mount.target))
    }

    /// Whether something has the volume's device open, and not only for the moment that udev takes to look at a
    /// device after each change of it.
    pub(super) async fn stays_open(&self, volume: &Volume) -> Result<bool> {
        self.device_stays_open(&volume.logical.mapper_uuid(&volume.group)).await
    }

    /// The same by its device's UUID.
    pub(super) async fn device_stays_open(&self, uuid: &str) -> Result<bool> {
        for _ in 0..SETTLE_TRIES {
            if self.device_of(uuid).await?.is_none_or(|device| device.open_count == 0) {
                return Ok(false);
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        Ok(true)
    }

    /// The volume's device while it is active. One that an lvm command left suspended is set going first:
    /// whoever used it would wait for ever.
    pub(super) async fn running_device(&self, volume: &Volume) -> Result<Option<MappedDevice>> {
        match self.active_device(volume).await? {
            Some(device) if device.suspended => self.activated(volume).await.map(Some),
            other => Ok(other),
        }
    }

    /// The device that a volume left which is not there any more: of its name, and of no logical volume that is there
    /// and somebody else's.
    pub(super) async fn remnant(&self, view: &View, logical_name: &str) -> Result<Option<MappedDevice>> {
        let is_foreign = |device: &MappedDevice| {
            view.logical_volumes(logical_name).any(|(group, logical)| {
                logical.mapper_uuid(group) == device.uuid && Volume::of(group, logical).is_none()
            })
        };
        let devices = self.mapped_devices().await?;
        Ok(devices.into_iter().find(|device| is_volume_named(device, logical_name) && !is_foreign(device)))
    }

    /// Changes the tags of a volume and makes the change survive a power cut.
    pub(super) async fn change_tags(&self, volume: &Volume, add: &[String], remove: &[String]) -> Result<()> {
        volume.ensure_writable()?;
        let (group, name) = (&volume.group, &volume.logical.name);
        let turn = self.writer.turn(&group.name).await;
        let changed = self.writer.change_tags(&turn, group, name, add, remove).await;
        drop(turn);
        self.reaper.changed(&group.name);
        let (view, flushed) = tokio::join!(self.groups.read(), self.writer.flush(&volume.group));
        let is_done = Volume::find(&*view?, name)?.is_some_and(|now| {
            let has = |tag: &String| now.logical.tags.contains(tag);
            add.iter().all(has) && !remove.iter().any(has)
        });
        if !is_done {
            changed?;
            return Err(Error::Internal { problem: format!("the tags of {} did not change", volume.full_name()) });
        }
        flushed
    }
}

/// Whether a device is a logical volume of that name, whatever its group. Device-mapper's name of it is both names with
/// a hyphen in between and their own hyphens doubled (lvm(8), "Device and volume group names").
fn is_volume_named(device: &MappedDevice, logical_name: &str) -> bool {
    let ending = format!("-{}", logical_name.replace('-', "--"));
    let group = device.name.strip_suffix(&ending).filter(|_| device.uuid.starts_with("LVM-"));
    // An odd hyphen at the end of the group's part belongs to a longer name of the volume.
    group.is_some_and(|group| (group.len() - group.trim_end_matches('-').len()).is_multiple_of(2))
}

/// Whether a mount shows the file system on that device. btrfs has device numbers of its own, so there the
/// mount's source tells.
pub fn shows_file_system(mount: &MountEntry, device: &MappedDevice) -> bool {
    mount.device == device.number
        || (mount.file_system == "btrfs"
            && (Path::new(&mount.source) == device_path(device)
                || Path::new(&mount.source) == Path::new("/dev/mapper").join(&device.name)))
}

/// Whether a mount shows the device node itself, as a raw block volume is published.
pub fn shows_device(mount: &MountEntry, device: &MappedDevice) -> bool {
    let node = format!("dm-{}", device.number.minor);
    matches!(mount.file_system.as_str(), "devtmpfs" | "tmpfs")
        && mount.root.file_name().is_some_and(|name| name == node.as_str())
}

/// Whether a mount shows the node of a device that is gone: the table marks what was deleted since. Nothing can be
/// reached through it, and another device may have the number by now.
pub fn shows_dead_device(mount: &MountEntry) -> bool {
    let root = mount.root.as_os_str().as_encoded_bytes();
    matches!(mount.file_system.as_str(), "devtmpfs" | "tmpfs")
        && root.starts_with(b"/dm-")
        && root.ends_with(b"//deleted")
}

/// All mounts of a volume, in the order of the mount table.
pub fn mounts_of<'m>(mounts: &'m [MountEntry], device: &MappedDevice) -> Vec<&'m MountEntry> {
    mounts.iter().filter(|mount| shows_file_system(mount, device) || shows_device(mount, device)).collect()
}

/// What is mounted at a path: the topmost mount, which the mount table lists last.
pub fn mounted_at<'m>(mounts: &'m [MountEntry], path: &Path) -> Option<&'m MountEntry> {
    mounts.iter().rev().find(|mount| mount.target == path)
}

/// Whether a mount can be written through.
pub fn is_read_only(mount: &MountEntry) -> bool {
    mount.options.iter().any(|option| option == "ro")
}

/// The path as the mount table writes it: symbolic links in its parents resolved, the last part not
/// followed.
pub async fn resolved(path: &Path) -> PathBuf {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    match tokio::fs::canonicalize(parent).await {
        Ok(parent) => parent.join(name),
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::kernel::DeviceNumber;

    #[test]
    fn a_device_is_of_a_volume_only_with_its_whole_name() {
        let device = |uuid: &str, name: &str| MappedDevice {
            name: name.to_owned(),
            uuid: uuid.to_owned(),
            number: DeviceNumber { major: 252, minor: 1 },
            open_count: 0,
            suspended: false,
            read_only: false,
        };
        for (name, volume) in [("vg-a", "a"), ("v--g-a--b", "a-b"), ("vg---a", "a"), ("vg-a", "a")] {
            assert!(is_volume_named(&device("LVM-x", name), volume), "{name} {volume}");
            assert!(!is_volume_named(&device("CRYPT-x", name), volume), "{name} {volume}");
        }
        for (name, volume) in [("vg-a--b", "b"), ("vg-xa", "a"), ("vg--a", "a"), ("a", "a"), ("vg-a", "vg-a")] {
            assert!(!is_volume_named(&device("LVM-x", name), volume), "{name} {volume}");
        }
    }
}
