//! Growth: of the logical volume (`ControllerExpandVolume`) and of the file system on it (`NodeExpandVolume`).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::csi::request::size::SizeRange;
use crate::error::{Error, Result};
use crate::host::file_system::FileSystem;
use crate::host::probe::{Content, probe};
use crate::node::Node;
use crate::node::device::{is_read_only, resolved, shows_file_system};
use crate::node::placement::Room;
use crate::node::volume::{Volume, device_path};

impl Node {
    /// Grows the logical volume; answers with its size in bytes and whether the node has a file system to grow.
    pub async fn expand_volume(self: &Arc<Self>, volume_id: &str, size: SizeRange) -> Result<(u64, bool)> {
        let name = self.known_name(volume_id)?;
        let node = Arc::clone(self);
        self.mutate(&name.clone(), "growing", async move {
            let volume = node.volume(&name).await?;
            let volume = node.extend(volume, size).await?;
            Ok((volume.bytes(), !volume.tags.block))
        })
        .await
    }

    /// Grows what is mounted at the path to the size of its volume, the volume first if the request is larger.
    pub async fn expand_mounted(self: &Arc<Self>, volume_id: &str, path: PathBuf, size: SizeRange) -> Result<u64> {
        let name = self.known_name(volume_id)?;
        let node = Arc::clone(self);
        self.mutate(&name.clone(), "growing", async move {
            let volume = node.volume(&name).await?;
            node.ensure_at(&volume, &path).await?;
            let volume = if size == SizeRange::default() { volume } else { node.extend(volume, size).await? };
            node.grow_file_system(&volume, &path).await?;
            Ok(volume.bytes())
        })
        .await
    }

    pub(super) async fn extend(&self, volume: Volume, size: SizeRange) -> Result<Volume> {
        if size.required.is_none_or(|required| volume.bytes() >= required) {
            return if size.accepts(volume.bytes()) {
                // A try that was cut off may have left its commit unflushed or the device suspended.
                self.running_device(&volume).await?;
                self.writer.flush(&volume.group).await?;
                Ok(volume)
            } else {
                Err(out_of_range(
                    "capacity_range.limit_bytes",
                    format!("the volume has {} bytes already; volumes are never made smaller", volume.bytes()),
                ))
            };
        }
        volume.ensure_writable()?;
        // lvm lets a volume with thick snapshots grow only while nobody uses it.
        volume.ensure_no_snapshot("grown")?;
        let extents = size.extents(volume.bytes(), volume.group.extent_bytes)?;
        let (group, name) = (volume.group.name.clone(), volume.logical.name.clone());
        let turn = self.writer.turn(&group).await;
        let view = self.mended(&turn, self.groups.read().await?, &group).await?;
        let Some(volume) = Volume::find(&view, &name)? else {
            return Err(self.missing(&view, &name).await);
        };
        if volume.logical.extents < extents {
            volume.ensure_no_snapshot("grown")?;
            if let Some(snapshot) = volume.snapshots().next()
                && self.active_device(&volume).await?.is_some()
            {
                // lvm refuses then; the reaper has it parted soon.
                let operation = format!("its snapshot {} is being removed", snapshot.name);
                return Err(Error::Busy { volume: name, operation });
            }
            self.ensure_room(&volume, extents).await?;
            let activation = self.activation(&volume.group, &volume.logical).await?;
            let ran = self.writer.extend(&turn, &volume.group, &name, extents, activation).await;
            self.reaper.changed(&group);
            let after = self.groups.read().await?;
            let is_grown = Volume::find(&after, &name)?.is_some_and(|volume| volume.logical.extents >= extents);
            if !is_grown {
                ran?;
                return Err(Error::Internal { problem: format!("{} did not grow", volume.full_name()) });
            }
        }
        drop(turn);
        self.running_device(&volume).await?;
        self.writer.flush(&volume.group).await?;
        self.volume(&name).await
    }

    async fn ensure_room(&self, volume: &Volume, extents: u64) -> Result<()> {
        let more = extents - volume.logical.extents;
        let class = self.class(&volume.tags.class);
        let (most, why) = match self.room_to_grow(volume, class.as_ref()).await? {
            Room::None(reason) => (0, reason),
            Room::Extents(most) => match &class {
                Some(class) => (most, format!("reserve {}", class.reserve)),
                None => (most, format!("its class {:?} is not there any more", volume.tags.class)),
            },
        };
        if more <= most {
            return Ok(());
        }
        Err(out_of_range(
            "capacity_range.required_bytes",
            format!(
                "volume group {} lets the volume grow to {} bytes at most ({why})",
                volume.group.name,
                (volume.logical.extents + most) * volume.group.extent_bytes
            ),
        ))
    }

    /// That the volume is what its user sees at the path.
    pub(super) async fn ensure_at(&self, volume: &Volume, path: &Path) -> Result<()> {
        let missing = || Error::NotFound { what: format!("volume {} at {}", volume.logical.name, path.display()) };
        let device = self.active_device(volume).await?.ok_or_else(missing)?;
        let target = resolved(path).await;
        let mounts = self.mounts().await?;
        if mounts.iter().any(|mount| mount.target == target && shows_file_system(mount, &device)) {
            return Ok(());
        }
        let number = self.kernel.device_at(path).await.map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => missing(),
            _ => Error::kernel(format!("could not look at {}", path.display()), source),
        })?;
        if number == Some(device.number) { Ok(()) } else { Err(missing()) }
    }

    async fn grow_file_system(&self, volume: &Volume, path: &Path) -> Result<()> {
        let Some(device) = self.running_device(volume).await? else { return Ok(()) };
        let mounts = self.mounts().await?;
        let shown: Vec<_> = mounts.iter().filter(|mount| shows_file_system(mount, &device)).collect();
        if shown.is_empty() {
            return Ok(());
        }
        let Some(mount) = shown.iter().find(|mount| !is_read_only(mount)) else {
            return Err(Error::precondition(format!(
                "the file system at {} is mounted read-only; it grows at the next writable mount",
                path.display()
            )));
        };
        self.grow_mounted(volume, &device_path(&device), &mount.target).await
    }

    /// Grows the file system on the device, mounted at the path, if the volume is larger.
    pub(super) async fn grow_mounted(&self, volume: &Volume, device: &Path, mounted_at: &Path) -> Result<()> {
        if let Content::FileSystem(superblock) = probe(&*self.kernel, &*self.commands, device, volume.bytes()).await?
            && superblock.needs_growing(volume.bytes())
        {
            self.grow_with(volume, superblock.file_system, device, mounted_at).await?;
        }
        Ok(())
    }

    /// Grows the mounted file system to the size of its device.
    pub(super) async fn grow_with(
        &self,
        volume: &Volume,
        file_system: FileSystem,
        device: &Path,
        mounted_at: &Path,
    ) -> Result<()> {
        self.commands.run_ok(&file_system.grow(device, mounted_at)).await?;
        if file_system == FileSystem::Xfs { self.write_log_out(volume).await } else { Ok(()) }
    }
}

fn out_of_range(field: &str, problem: String) -> Error {
    Error::OutOfRange { field: field.to_owned(), problem }
}
