//! A copy's file system gets a UUID of its own before its first mount, so that it can be mounted beside its source.

use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::host::file_system::FileSystem;
use crate::host::kernel::{MappedDevice, Mount, Stretch};
use crate::host::probe::{Content, probe};
use crate::host::superblock::{Log, Superblock};
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::tags::{RENEWING_FROM, SAME_UUID, renewing_from, renewing_tags};
use crate::node::Node;
use crate::node::device::{mounted_at, mounts_of, shows_file_system};
use crate::node::volume::{Volume, device_path};

/// That a snapshot of it can be mounted: one of which the log is half written has not the tag that says so.
pub(in crate::node) fn ensure_log_is_whole(group: &VolumeGroup, logical: &LogicalVolume) -> Result<()> {
    if renewing_from(&logical.tags).is_none() {
        return Ok(());
    }
    Err(Error::precondition(format!(
        "the file system of {}/{} was being given a UUID of its own when that was cut off; stage it once, then try again",
        group.name, logical.name
    )))
}

impl Node {
    /// Gives the file system of a copy a new UUID and takes the tag away that says that it has not. The device is held by the
    /// caller; the folder is where it will be staged.
    pub(in crate::node) async fn renew_uuid(
        &self,
        volume: &Volume,
        device: &MappedDevice,
        found: &Superblock,
        folder: &Path,
    ) -> Result<()> {
        let failed = |source| Error::kernel(format!("could not give {} a UUID of its own", volume.full_name()), source);
        let mounts = self.mounts().await?;
        if let Some(mount) = mounts_of(&mounts, device).into_iter().find(|mount| mount.target != folder) {
            let (name, target) = (volume.full_name(), mount.target.display());
            return Err(Error::precondition(format!(
                "volume {name} is new, but mounted at {target}; unmount it there"
            )));
        }
        // As long as the tag is there nobody but a try of this has mounted it here.
        if let Some(mount) = mounted_at(&mounts, folder) {
            if !shows_file_system(mount, device) {
                return Err(Error::precondition(format!("{} holds another mount", folder.display())));
            }
            self.kernel.unmount(folder).await.map_err(failed)?;
        }
        let mut over = vec![String::from(SAME_UUID)];
        over.extend(renewing_tags(&volume.logical.tags).cloned());
        if found.file_system.needs_own_uuid() {
            let path = device_path(device);
            // A log is that of a file system in use, or that was cut off; the kernel empties it. xfs_db refuses while there is
            // one, and what btrfstune makes of it cannot be mounted any more. From Linux 6.7 on btrfs mounts beside its source.
            let is_xfs = found.file_system == FileSystem::Xfs;
            if let (Some(cycle), Some(log)) = (renewing_from(&volume.logical.tags), found.log) {
                self.make_log_anew(volume, &path, log, cycle).await?;
            } else if is_xfs || found.has_log {
                let options = is_xfs.then(|| String::from("nouuid"));
                let mount = Mount::FileSystem {
                    device: path.clone(),
                    target: folder.to_owned(),
                    file_system: found.file_system.to_string(),
                    options: options.into_iter().collect(),
                };
                self.kernel.mount(&mount).await.map_err(failed)?;
                self.kernel.unmount(folder).await.map_err(failed)?;
                if let Some(log) = found.log {
                    over.push(self.note_renewing(volume, &path, log).await?);
                }
            }
            let renew = found.file_system.renew_uuid(&path);
            let output = self.commands.run_ok(&renew).await?;
            self.kernel.flush(&path).await.map_err(failed)?;
            match probe(&*self.kernel, &*self.commands, &path, volume.bytes()).await? {
                Content::FileSystem(now) if now.file_system == found.file_system && now.uuid != found.uuid => {}
                _ => {
                    return Err(Error::Internal {
                        problem: format!("`{renew}` gave {} no new UUID: {}", volume.full_name(), output.stderr),
                    });
                }
            }
        }
        self.change_tags(volume, &[], &over).await
    }

    /// Notes that the log holds nothing and may be cut off while it is written anew: `xfs_db` writes all of it before the UUID, and
    /// what it has written half the kernel does not mount, nor does `xfs_db` take it up. Answers with the tag that says so.
    async fn note_renewing(&self, volume: &Volume, device: &Path, log: Log) -> Result<String> {
        let stretch = Stretch { device: device.to_owned(), offset: log.offset, length: Log::HEAD_BYTES };
        let read = self.kernel.read(vec![stretch]).await.into_iter().next();
        let head = read.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
        let failed = |source| Error::kernel(format!("could not read the log of {}", volume.full_name()), source);
        let unknown = || Error::Internal { problem: format!("the log of {} is not understood", volume.full_name()) };
        let cycle = Log::cycle_after(&head.map_err(failed)?).ok_or_else(unknown)?;
        let tag = format!("{RENEWING_FROM}{cycle}");
        self.change_tags(volume, std::slice::from_ref(&tag), &[]).await?;
        Ok(tag)
    }

    /// Makes a log anew that held nothing when it was begun to be written anew.
    async fn make_log_anew(&self, volume: &Volume, device: &Path, log: Log, cycle: u32) -> Result<()> {
        let failed = |source| Error::kernel(format!("could not empty the log of {}", volume.full_name()), source);
        let stretch = Stretch { device: device.to_owned(), offset: log.offset, length: log.bytes };
        self.kernel.zero(stretch).await.map_err(failed)?;
        self.kernel.flush(device).await.map_err(failed)?;
        Ok(self.commands.run_ok(&FileSystem::make_log_anew(device, cycle)).await.map(drop)?)
    }
}
