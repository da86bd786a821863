//! `NodeStageVolume` and `NodeUnstageVolume`: from a logical volume to a mounted file system and back.
//!
//! Only here is anything ever formatted, and only a volume that is tagged `fresh`. Its states:
//! fresh → (head zeroed, mkfs, flushed; still fresh, so a crash redoes all of it) → tag cleared, flushed →
//! mounted. From then on its content is its user's: it is looked at, never written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::csi::request::capability::{Access, Capability};
use crate::error::{Error, Result};
use crate::host::file_system::FileSystem;
use crate::host::kernel::{MappedDevice, Mount, MountEntry, Stretch};
use crate::host::mount_options;
use crate::host::probe::{Content, probe};
use crate::host::superblock::Superblock;
use crate::lvm::tags::{BLOCK, FRESH, file_system_tag};
use crate::node::Node;
use crate::node::device::{is_read_only, mounted_at, mounts_of, resolved, shows_file_system, shows_some_mapped_device};
use crate::node::volume::{Volume, device_path};

/// Bytes at the head and the tail of a fresh volume in which file systems, partition tables, RAID and
/// encryption keep their signatures.
const SIGNATURE_BYTES: u64 = 2 << 20;
/// A volume to be staged.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The volume's id.
    pub volume_id: String,
    /// The folder that the caller made for it.
    pub staging_path: PathBuf,
    /// How it will be used.
    pub capability: Capability,
}

/// A mount as it should be.
struct Wanted {
    file_system: FileSystem,
    options: Vec<String>,
}

impl Node {
    /// Makes the volume ready for its users on this node.
    pub async fn stage(self: &Arc<Self>, stage: Stage) -> Result<()> {
        let name = self.known_name(&stage.volume_id)?;
        let node = Arc::clone(self);
        self.mutate(&name.clone(), "staging", async move { node.stage_locked(&name, &stage).await }).await
    }

    async fn stage_locked(&self, name: &str, stage: &Stage) -> Result<()> {
        let volume = self.volume(name).await?;
        match &stage.capability.access {
            Access::Block => self.stage_block(&volume).await,
            Access::Mount { file_system, flags } => {
                let wanted = self.wanted(&volume, file_system.as_deref(), flags)?;
                let path = resolved(&stage.staging_path).await;
                self.stage_mount(&volume, &path, &wanted).await
            }
        }
    }

    /// A raw block volume is its user's from now on, whatever is on it.
    async fn stage_block(&self, volume: &Volume) -> Result<()> {
        let device = self.activated(volume).await?;
        if volume.tags.fresh {
            self.ensure_nobody_has_it_open(volume).await?;
            self.zero_signatures(volume, &device).await?;
        }
        if volume.tags.fresh || !volume.tags.block {
            let remove = if volume.tags.fresh { vec![String::from(FRESH)] } else { Vec::new() };
            return self.change_tags(volume, &[String::from(BLOCK)], &remove).await;
        }
        // The tags may be those of a try that ended before they were flushed.
        self.writer.flush(&volume.group).await
    }

    fn wanted(&self, volume: &Volume, requested: Option<&str>, flags: &[String]) -> Result<Wanted> {
        let class = self.class(&volume.tags.class);
        let word = requested
            .or(volume.tags.file_system.as_deref())
            .or(class.as_ref().map(|class| class.file_system.as_str()))
            .unwrap_or("ext4");
        let file_system: FileSystem =
            word.parse().map_err(|problem: String| Error::invalid("volume_capability.mount.fs_type", problem))?;
        let words: Vec<String> =
            class.iter().flat_map(|class| class.mount_options.iter()).chain(flags).cloned().collect();
        let refused = |problem: String| Error::invalid("volume_capability.mount.mount_flags", problem);
        let options = mount_options::parse(&words).map_err(refused)?;
        mount_options::check(file_system, &options).map_err(refused)?;
        Ok(Wanted { file_system, options })
    }

    async fn stage_mount(&self, volume: &Volume, path: &PathBuf, wanted: &Wanted) -> Result<()> {
        match tokio::fs::symlink_metadata(path).await {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                let problem = format!("{} is not a folder; a file system is mounted on a folder", path.display());
                return Err(Error::invalid("staging_target_path", problem));
            }
            Err(source) => {
                let problem = format!("{} cannot be used: {source}; the caller makes this folder", path.display());
                return Err(Error::invalid("staging_target_path", problem));
            }
        }
        let device = self.activated(volume).await?;
        if let Some(mount) = mounted_at(&self.mounts().await?, path) {
            already_staged(volume, mount, &device, wanted)?;
            // The try that mounted it may have ended before it grew.
            return if is_read_only(mount) {
                Ok(())
            } else {
                self.grow_mounted(volume, &device_path(&device), path).await
            };
        }
        let superblock = if volume.tags.fresh {
            self.format(volume, &device, wanted.file_system).await?
        } else {
            // A try that formatted it may have ended before the cleared tag was flushed. Were it mounted like
            // that, a power cut would make it fresh again, with its user's data.
            self.writer.flush(&volume.group).await?;
            match probe(&*self.kernel, &*self.commands, &device_path(&device), volume.bytes()).await? {
                Content::FileSystem(found) if found.file_system == wanted.file_system => found,
                other => return Err(unexpected(volume, wanted.file_system, &other)),
            }
        };
        let mount = Mount::FileSystem {
            device: device_path(&device),
            target: path.clone(),
            file_system: wanted.file_system.to_string(),
            options: wanted.options.clone(),
        };
        let mounted = self.kernel.mount(&mount).await;
        mounted.map_err(|source| not_mounted(volume, path, &wanted.options, source))?;
        if superblock.needs_growing(volume.bytes()) && !mount_options::is_read_only(&wanted.options) {
            self.commands.run_ok(&wanted.file_system.grow(&device_path(&device), path)).await?;
        }
        Ok(())
    }

    async fn format(&self, volume: &Volume, device: &MappedDevice, file_system: FileSystem) -> Result<Superblock> {
        if volume.bytes() < file_system.minimum_bytes() {
            return Err(Error::precondition(format!(
                "volume {} has {} bytes; {file_system} needs at least {}",
                volume.full_name(),
                volume.bytes(),
                file_system.minimum_bytes()
            )));
        }
        self.ensure_nobody_has_it_open(volume).await?;
        self.zero_signatures(volume, device).await?;
        let path = device_path(device);
        let mut options = self.class(&volume.tags.class).map(|class| class.mkfs_options).unwrap_or_default();
        if !volume.tags.mkfs_options.is_empty() {
            options.clone_from(&volume.tags.mkfs_options);
        }
        let mkfs = file_system.mkfs(&path, &options);
        self.commands.run_ok(&mkfs).await?;
        self.flush_device(volume, &path).await?;
        // Looked at before the tag goes: without it the volume could neither be mounted nor be formatted ever again.
        let superblock = match probe(&*self.kernel, &*self.commands, &path, volume.bytes()).await? {
            Content::FileSystem(found) if found.file_system == file_system => found,
            other => {
                let problem = format!("`{mkfs}` ended well, but {} holds {}", volume.full_name(), in_words(&other));
                return Err(Error::Internal { problem });
            }
        };
        self.change_tags(volume, &[file_system_tag(file_system.word())], &[String::from(FRESH)]).await?;
        Ok(superblock)
    }

    /// A fresh volume was never mounted by us; if somebody else has it open, it is not ours to format.
    async fn ensure_nobody_has_it_open(&self, volume: &Volume) -> Result<()> {
        if !self.stays_open(volume).await? {
            return Ok(());
        }
        Err(Error::precondition(format!(
            "volume {} is new, but something has its device open, so it is not formatted; close it",
            volume.full_name()
        )))
    }

    async fn zero_signatures(&self, volume: &Volume, device: &MappedDevice) -> Result<()> {
        let path = device_path(device);
        let head = SIGNATURE_BYTES.min(volume.bytes());
        let tail = SIGNATURE_BYTES.min(volume.bytes() - head);
        for (offset, length) in [(0, head), (volume.bytes() - tail, tail)] {
            let stretch = Stretch { device: path.clone(), offset, length };
            let failed = |source| Error::kernel(format!("could not zero the ends of {}", volume.full_name()), source);
            self.kernel.zero(stretch).await.map_err(failed)?;
        }
        self.flush_device(volume, &path).await
    }

    async fn flush_device(&self, volume: &Volume, device: &std::path::Path) -> Result<()> {
        let failed = |source| Error::kernel(format!("could not flush {}", volume.full_name()), source);
        self.kernel.flush(device).await.map_err(failed)
    }

    /// Takes the volume away from this node's users; nothing that is not of this volume is touched.
    pub async fn unstage(self: &Arc<Self>, volume_id: &str, staging_path: PathBuf) -> Result<()> {
        let Some(name) = self.logical_name(volume_id) else { return Ok(()) };
        let node = Arc::clone(self);
        self.mutate(&name.clone(), "unstaging", async move { node.unstage_locked(&name, &staging_path).await }).await
    }

    async fn unstage_locked(&self, name: &str, staging_path: &std::path::Path) -> Result<()> {
        let path = resolved(staging_path).await;
        let snapshot = self.groups.read().await?;
        // The device of a volume that is being deleted belongs to its wipe.
        let volume = Volume::find(&snapshot, name)?.filter(|volume| volume.tags.deleting.is_none());
        let device = match &volume {
            Some(volume) => self.running_device(volume).await?,
            None => None,
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
            // It may still be active on disks that cannot be read now; on disks that are gone it is not ours
            // to end.
            (None, _) => self.why_unread(&snapshot, name).map_or(Ok(()), Err),
        }
    }

    /// An inactive volume cannot be written by mistake. One that somebody still holds stays active.
    async fn deactivate(&self, volume: &Volume) -> Result<()> {
        let (group, name) = (&volume.group.name, &volume.logical.name);
        let turn = self.writer.turn(group).await;
        let ran = self.writer.deactivate(&turn, group, name).await;
        drop(turn);
        if let Some(device) = self.active_device(volume).await? {
            if device.open_count > 0 {
                tracing::warn!(volume = volume.full_name(), "stays active: something has its device open");
                return Ok(());
            }
            ran?;
        }
        Ok(())
    }

    /// Unmounts every mount of the volume at that path. What is mounted there but is not the volume stays.
    pub(super) async fn unmount_all(
        &self,
        name: &str,
        path: &std::path::Path,
        device: Option<&MappedDevice>,
    ) -> Result<()> {
        loop {
            let mounts = self.mounts().await?;
            let Some(mount) = mounted_at(&mounts, path) else { return Ok(()) };
            let is_of_volume = match device {
                Some(device) => !mounts_of(std::slice::from_ref(mount), device).is_empty(),
                // The volume is gone or cannot be seen; a mount of a device-mapper device left here can only be its.
                None => shows_some_mapped_device(mount),
            };
            if !is_of_volume {
                return Err(Error::precondition(format!(
                    "{} holds a mount of {}, which is not volume {name}; it is left alone",
                    path.display(),
                    mount.source
                )));
            }
            self.kernel
                .unmount(path)
                .await
                .map_err(|source| Error::kernel(format!("could not unmount {}", path.display()), source))?;
        }
    }
}

fn already_staged(volume: &Volume, mount: &MountEntry, device: &MappedDevice, wanted: &Wanted) -> Result<()> {
    if !shows_file_system(mount, device) {
        return Err(Error::precondition(format!(
            "{} holds a mount of {}, which is not volume {}",
            mount.target.display(),
            mount.source,
            volume.full_name()
        )));
    }
    let difference = if mount.file_system != wanted.file_system.word() {
        Some(format!("as {}, not {}", mount.file_system, wanted.file_system))
    } else if is_read_only(mount) != mount_options::is_read_only(&wanted.options) {
        Some(String::from("with another ro or rw"))
    } else {
        let per_mount = mount_options::per_mount(&wanted.options);
        per_mount.iter().find(|option| !mount.options.contains(option)).map(|option| format!("without {option}"))
    };
    match difference {
        None => Ok(()),
        Some(difference) => Err(Error::AlreadyExists {
            what: format!("the mount at {}", mount.target.display()),
            difference: format!("it was staged {difference}"),
        }),
    }
}

/// The kernel answers EINVAL to every option that it does not take, without naming it.
fn not_mounted(volume: &Volume, path: &Path, options: &[String], source: io::Error) -> Error {
    let mut what = format!("could not mount {} at {}", volume.full_name(), path.display());
    if !options.is_empty() {
        what = format!("{what} with the options {}", options.join(","));
    }
    if source.kind() == io::ErrorKind::InvalidInput && options.iter().any(|option| option.contains("context=")) {
        return Error::precondition(format!(
            "{what}: {source}; a context needs SELinux, which this node's kernel may lack or have switched off"
        ));
    }
    Error::kernel(what, source)
}

fn in_words(content: &Content) -> String {
    match content {
        Content::Blank => String::from("nothing"),
        Content::FileSystem(found) => found.file_system.to_string(),
        Content::Other(description) => description.clone(),
    }
}

fn unexpected(volume: &Volume, wanted: FileSystem, content: &Content) -> Error {
    let found = in_words(content);
    Error::precondition(format!(
        "volume {} should hold {wanted} but holds {found}; it was in use before, so it is not formatted: ask for \
         what it holds, or look at it with blkid",
        volume.full_name()
    ))
}
