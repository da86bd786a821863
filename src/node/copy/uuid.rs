//! A copy's file system gets a UUID of its own before its first mount, so that it can be mounted beside its source.

use std::path::Path;

use crate::error::{Error, Result};
use crate::host::file_system::FileSystem;
use crate::host::kernel::{MappedDevice, Mount};
use crate::host::probe::{Content, probe};
use crate::host::superblock::Superblock;
use crate::lvm::tags::SAME_UUID;
use crate::node::Node;
use crate::node::device::{mounted_at, mounts_of, shows_file_system};
use crate::node::volume::{Volume, device_path};

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
        if found.file_system.needs_own_uuid() {
            let path = device_path(device);
            // A log is that of a file system in use, or that was cut off; the kernel empties it. xfs_db refuses while there is
            // one, and what btrfstune makes of it cannot be mounted any more. From Linux 6.7 on btrfs mounts beside its source.
            let is_xfs = found.file_system == FileSystem::Xfs;
            if is_xfs || found.has_log {
                let options = is_xfs.then(|| String::from("nouuid"));
                let mount = Mount::FileSystem {
                    device: path.clone(),
                    target: folder.to_owned(),
                    file_system: found.file_system.to_string(),
                    options: options.into_iter().collect(),
                };
                self.kernel.mount(&mount).await.map_err(failed)?;
                self.kernel.unmount(folder).await.map_err(failed)?;
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
        self.change_tags(volume, &[], &[String::from(SAME_UUID)]).await
    }
}
