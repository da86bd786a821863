//! `NodeUnstageVolume`: from a mounted file system back to a logical volume that nobody can write by mistake.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::host::kernel::MappedDevice;
use crate::node::device::{mounted_at, mounts_of, resolved, shows_dead_device};
use crate::node::volume::Volume;
use crate::node::{Node, why_unread};

impl Node {
    /// Takes the volume away from this node's users; nothing that is not of this volume is touched.
    pub async fn unstage(self: &Arc<Self>, volume_id: &str, staging_path: PathBuf) -> Result<()> {
        let Some(name) = self.logical_name(volume_id) else { return Ok(()) };
        let node = Arc::clone(self);
        self.forgotten.end(&name);
        self.mutate(&name.clone(), "unstaging", async move { node.unstage_locked(&name, &staging_path).await }).await
    }

    /// The same by the volume's name, for who has the volume's lock.
    pub(super) async fn unstage_locked(&self, name: &str, staging_path: &Path) -> Result<()> {
        let path = resolved(staging_path).await;
        let view = self.groups.read().await?;
        // The device of a volume that is being deleted belongs to its wipe.
        let found = Volume::find(&view, name)?;
        let is_found = found.is_some();
        let volume = found.filter(|volume| volume.tags.deleting.is_none());
        let device = match &volume {
            Some(volume) => self.running_device(volume).await?,
            None => self.remnant(&view, name).await?,
        };
        if let Some(device) = &device {
            let mounts = self.mounts().await?;
            let published = mounts_of(&mounts, device).into_iter().find(|mount| mount.target != path);
            if let Some(mount) = published {
                return Err(Error::precondition(format!(
                    "volume {name} is still published at {}; unpublish it first",
                    mount.target.display()
                )));
            }
        }
        self.unmount_all(name, &path, device.as_ref()).await?;
        match (volume, device) {
            (Some(volume), Some(_)) => self.deactivate(&volume).await,
            (Some(_), None) => Ok(()),
            (None, _) if is_found => Ok(()),
            // It may still be active on disks that cannot be read now; on disks that are gone it is not ours
            // to end.
            (None, _) => why_unread(&view, name).map_or(Ok(()), Err),
        }
    }

    /// An inactive volume cannot be written by mistake. One that somebody still holds stays active.
    async fn deactivate(&self, volume: &Volume) -> Result<()> {
        let (group, name) = (&volume.group, &volume.logical.name);
        if let Err(error) = self.note_lost_of(volume).await {
            tracing::warn!(%error, volume = volume.full_name(), "could not note which of its snapshots are lost");
        }
        let turn = self.writer.turn(&group.name).await;
        let ran = self.writer.deactivate(&turn, group, name).await;
        drop(turn);
        if let Some(device) = self.active_device(volume).await? {
            let is_open = device.open_count > 0;
            if is_open || volume.group.snapshot_of(name).is_some() {
                if !is_open {
                    // Its snapshot is being read; who does so takes it away afterwards.
                    self.copies.lend(&volume.logical.uuid);
                }
                tracing::warn!(volume = volume.full_name(), "stays active: something has it open, or a snapshot of it");
                return Ok(());
            }
            ran?;
        }
        Ok(())
    }

    /// Unmounts every mount of the volume at that path. What is mounted there but is not the volume stays.
    pub(super) async fn unmount_all(&self, name: &str, path: &Path, device: Option<&MappedDevice>) -> Result<()> {
        loop {
            let mounts = self.mounts().await?;
            let Some(mount) = mounted_at(&mounts, path) else { return Ok(()) };
            let shows_it = |device| !mounts_of(std::slice::from_ref(mount), device).is_empty();
            if !device.is_some_and(shows_it) && !shows_dead_device(mount) {
                return Err(Error::precondition(format!(
                    "{} holds a mount of {}, which is not volume {name}; it is left alone",
                    path.display(),
                    mount.source
                )));
            }
            self.kernel.unmount(path).await.map_err(|source| match source.kind() {
                ErrorKind::ResourceBusy => Error::precondition(format!(
                    "volume {name} cannot be unmounted from {}: a file of it is open, a process works in it, or something is \
                     mounted below",
                    path.display()
                )),
                _ => Error::kernel(format!("could not unmount {}", path.display()), source),
            })?;
        }
    }
}
