//! `NodePublishVolume` and `NodeUnpublishVolume`: showing a staged volume at a user's path, and taking it away.
//! Only what was made here is removed, and only when it is empty: never anything below it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::csi::request::capability::{Access, AccessMode, Capability};
use crate::error::{Error, Result};
use crate::host::kernel::{MappedDevice, Mount, MountEntry};
use crate::host::mount_options;
use crate::node::Node;
use crate::node::device::{is_read_only, mounted_at, mounts_of, resolved, shows_device, shows_file_system};
use crate::node::volume::{Volume, device_path};

/// A volume to be published.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The volume's id.
    pub volume_id: String,
    /// Where it was staged.
    pub staging_path: PathBuf,
    /// Where it is to be shown; its parent folder exists.
    pub target_path: PathBuf,
    /// Whether this user may only read.
    pub read_only: bool,
    /// How it will be used.
    pub capability: Capability,
}

impl Node {
    /// Shows the volume at the target path.
    pub async fn publish(self: &Arc<Self>, publish: Publish) -> Result<()> {
        let name = self.known_name(&publish.volume_id)?;
        let node = Arc::clone(self);
        self.forgotten.end(&name);
        self.mutate(&name.clone(), "publishing", async move { node.publish_locked(&name, &publish).await }).await
    }

    async fn publish_locked(&self, name: &str, publish: &Publish) -> Result<()> {
        let volume = self.volume(name).await?;
        let found = self.active_device(&volume).await?;
        // What is active only for a copy goes when that is whole.
        let Some(device) = found.filter(|_| !self.copies.is_lent(&volume.logical.uuid)) else {
            return Err(Error::precondition(format!("volume {name} is not staged on this node; stage it first")));
        };
        let target = resolved(&publish.target_path).await;
        let staging = resolved(&publish.staging_path).await;
        let mounts = self.mounts().await?;
        let read_only = publish.read_only
            || publish.capability.mode == AccessMode::ReaderOnly
            || is_read_only_by_stage(&publish.capability.access, mounted_at(&mounts, &staging));
        if let Some(mount) = mounted_at(&mounts, &target) {
            return already_published(name, mount, &device, &publish.capability.access, read_only);
        }
        ensure_alone(name, &mounts, &device, &staging, publish.capability.mode)?;
        let mut held = None;
        let bind = match &publish.capability.access {
            Access::Block => {
                held = Some(self.hold(&device, &volume.full_name()).await?);
                self.prepare_block(&volume, &device, &mounts, read_only).await?;
                let options = if read_only { vec![String::from("ro")] } else { Vec::new() };
                Mount::Bind { source: device_path(&device), target: target.clone(), options }
            }
            Access::Mount { flags, .. } => {
                let staged = mounted_at(&mounts, &staging).filter(|mount| shows_file_system(mount, &device));
                let Some(staged) = staged else {
                    return Err(Error::precondition(format!(
                        "volume {name} is not staged at {}; stage it there first",
                        staging.display()
                    )));
                };
                let options = bind_options(&staged.file_system, flags, read_only)?;
                Mount::Bind { source: staging, target: target.clone(), options }
            }
        };
        let made = make_target(&target, publish.capability.access == Access::Block).await?;
        let shown = self.kernel.mount(&bind).await;
        // Until here the number was this volume's.
        drop(held);
        if let Err(source) = shown {
            // It may have been made all the same; what shows something is not taken away.
            if made && self.mounts().await.is_ok_and(|mounts| mounted_at(&mounts, &target).is_none()) {
                remove_target(&target).await.ok();
            }
            return Err(Error::kernel(format!("could not show volume {name} at {}", target.display()), source));
        }
        Ok(())
    }

    /// A read-only bind mount does not keep a device node from being written; the device itself must refuse.
    async fn prepare_block(
        &self,
        volume: &Volume,
        device: &MappedDevice,
        mounts: &[MountEntry],
        read_only: bool,
    ) -> Result<()> {
        if !volume.tags.block {
            return Err(Error::precondition(format!(
                "volume {} is not staged as a block volume; stage it so first",
                volume.logical.name
            )));
        }
        let other =
            mounts.iter().filter(|mount| shows_device(mount, device)).find(|mount| is_read_only(mount) != read_only);
        if let Some(other) = other {
            return Err(Error::precondition(format!(
                "block volume {} is published {} at {}; a device is read-only for all its users or for none",
                volume.logical.name,
                if read_only { "writable" } else { "read-only" },
                other.target.display()
            )));
        }
        if device.read_only != read_only {
            let failed = |source| Error::kernel(format!("could not set {} read-only", volume.full_name()), source);
            self.kernel.set_read_only(&device_path(device), read_only).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Takes the volume away from the target path and removes that path.
    pub async fn unpublish(self: &Arc<Self>, volume_id: &str, target_path: PathBuf) -> Result<()> {
        // An id that this node never gave out has no volume, so at most an empty path of it is left.
        let Some(name) = self.logical_name(volume_id) else {
            return self.unpublish_unknown(volume_id, &target_path).await;
        };
        let node = Arc::clone(self);
        self.mutate(&name.clone(), "unpublishing", async move { node.unpublish_locked(&name, &target_path).await })
            .await
    }

    async fn unpublish_locked(&self, name: &str, target_path: &Path) -> Result<()> {
        let target = resolved(target_path).await;
        let view = self.groups.read().await?;
        let device = match Volume::find(&view, name)? {
            Some(volume) => self.active_device(&volume).await?,
            None => self.remnant(&view, name).await?,
        };
        self.unmount_all(name, &target, device.as_ref()).await?;
        remove_target(&target).await
    }

    async fn unpublish_unknown(&self, volume_id: &str, target_path: &Path) -> Result<()> {
        let target = resolved(target_path).await;
        self.unmount_all(volume_id, &target, None).await?;
        remove_target(&target).await
    }
}

/// Whether what is there already is what was asked for.
fn already_published(
    name: &str,
    mount: &MountEntry,
    device: &MappedDevice,
    access: &Access,
    read_only: bool,
) -> Result<()> {
    let is_same = match access {
        Access::Block => shows_device(mount, device),
        Access::Mount { .. } => shows_file_system(mount, device),
    };
    if !is_same {
        return Err(Error::AlreadyExists {
            what: format!("a mount at {}", mount.target.display()),
            difference: format!("it shows {}, not volume {name} as asked for", mount.source),
        });
    }
    if is_read_only(mount) != read_only {
        return Err(Error::AlreadyExists {
            what: format!("volume {name} at {}", mount.target.display()),
            difference: format!("it was published with readonly = {}", !read_only),
        });
    }
    Ok(())
}

/// Whether nobody can write through a mount made from the staged one, be it for its flags or for those of this mount.
fn is_read_only_by_stage(access: &Access, staged: Option<&MountEntry>) -> bool {
    let Access::Mount { flags, .. } = access else { return false };
    staged.is_some_and(is_read_only)
        || mount_options::parse(flags).is_ok_and(|options| mount_options::is_read_only(&options))
}

/// A single writer has the volume to itself; the others of this node may share it.
fn ensure_alone(
    name: &str,
    mounts: &[MountEntry],
    device: &MappedDevice,
    staging: &Path,
    mode: AccessMode,
) -> Result<()> {
    if mode != AccessMode::SingleWriter {
        return Ok(());
    }
    match mounts_of(mounts, device).into_iter().find(|mount| mount.target != staging) {
        None => Ok(()),
        Some(other) => Err(Error::precondition(format!(
            "volume {name} is for a single writer and is published at {} already",
            other.target.display()
        ))),
    }
}

/// What of the flags belongs to one mount; the rest went to the file system when it was staged.
/// All of them are checked, since one that is only left out would be missed by nobody until it matters.
fn bind_options(file_system: &str, flags: &[String], read_only: bool) -> Result<Vec<String>> {
    let refused = |problem: String| Error::invalid("volume_capability.mount.mount_flags", problem);
    let flags = mount_options::parse(flags).map_err(refused)?;
    if let Ok(file_system) = file_system.parse() {
        mount_options::check(file_system, &flags).map_err(refused)?;
    }
    let mut options = mount_options::per_mount(&flags);
    if read_only && !options.iter().any(|option| option == "ro") {
        options.push(String::from("ro"));
    }
    Ok(options)
}

/// Makes the path that a volume is shown at: a file for a device, a folder for a file system. Answers
/// whether it was made; what is there is used only when it is of the right kind and empty.
async fn make_target(target: &Path, is_file: bool) -> Result<bool> {
    let bad = |problem: String| Error::invalid("target_path", problem);
    let made = if is_file {
        tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).await.map(drop)
    } else {
        tokio::fs::create_dir(target).await
    };
    match made {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(bad(format!("{} cannot be made: {error}; its parent must exist", target.display())));
        }
        Err(source) => return Err(Error::kernel(format!("could not make {}", target.display()), source)),
    }
    let failed = |source| Error::kernel(format!("could not look at {}", target.display()), source);
    let metadata = tokio::fs::symlink_metadata(target).await.map_err(failed)?;
    if metadata.is_symlink() {
        return Err(bad(format!("{} is a symbolic link; remove it", target.display())));
    }
    // Exactly that kind: a pipe or a socket under a device could be hidden by the mount, but not be removed later.
    if !(if is_file { metadata.is_file() } else { metadata.is_dir() }) {
        let (is, should) = if is_file { ("no file", "a file") } else { ("no folder", "a folder") };
        return Err(bad(format!("{} is {is}, where {should} is needed; remove it", target.display())));
    }
    let is_empty = if is_file {
        metadata.len() == 0
    } else {
        let mut entries = tokio::fs::read_dir(target).await.map_err(failed)?;
        entries.next_entry().await.map_err(failed)?.is_none()
    };
    if is_empty {
        return Ok(false);
    }
    Err(Error::precondition(format!("{} holds data that is not of the volume; it is left alone", target.display())))
}

/// Removes an empty target, never what lies below it.
async fn remove_target(target: &Path) -> Result<()> {
    let left_alone = |what: &str| {
        Error::precondition(format!("{} holds {what} that is not of the volume; it is left alone", target.display()))
    };
    let metadata = match tokio::fs::symlink_metadata(target).await {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(source) => return Err(Error::kernel(format!("could not look at {}", target.display()), source)),
    };
    let removed = if metadata.is_dir() {
        tokio::fs::remove_dir(target).await
    } else if metadata.is_file() && metadata.len() == 0 {
        tokio::fs::remove_file(target).await
    } else {
        return Err(left_alone("a file"));
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Err(left_alone("data")),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::kernel(format!("could not remove {}", target.display()), error))
        }
        _ => Ok(()),
    }
}
