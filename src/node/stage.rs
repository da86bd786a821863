//! `NodeStageVolume`: from a logical volume to a mounted file system or a device that is ready.
//!
//! The states of a volume that is mounted:
//! fresh → (head zeroed, mkfs, flushed; still fresh, so a crash redoes all of it) → tag cleared, flushed →
//! mounted. From then on its content is its user's: it is looked at, never written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::csi::request::capability::{Access, Capability};
use crate::error::{Error, Result};
use crate::host::file_system::FileSystem;
use crate::host::kernel::{MappedDevice, Mount, MountEntry};
use crate::host::mount_options;
use crate::host::probe::{Content, probe};
use crate::lvm::tags::{BLOCK, FRESH, SAME_UUID, renewing_tags};
use crate::node::Node;
use crate::node::device::{is_read_only, mounted_at, resolved, shows_file_system};
use crate::node::volume::{Volume, device_path};

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
        self.forgotten.end(&name);
        self.mutate(&name.clone(), "staging", async move { node.stage_locked(&name, &stage).await }).await
    }

    async fn stage_locked(&self, name: &str, stage: &Stage) -> Result<()> {
        let volume = self.volume(name).await?;
        self.copies.end_lending(&volume.logical.uuid);
        if volume.tags.fresh || volume.tags.has_same_uuid() {
            // Its first use changes its tags; where that cannot be, nothing is begun.
            volume.ensure_writable()?;
        }
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
        if let Some(mount) = self.mounts().await?.iter().find(|mount| shows_file_system(mount, &device)) {
            return Err(Error::AlreadyExists {
                what: format!("the mount of volume {} at {}", volume.full_name(), mount.target.display()),
                difference: String::from("it was staged with a file system, not as a block device; unstage it first"),
            });
        }
        if volume.tags.fresh {
            self.ensure_nobody_has_it_open(volume).await?;
            let (device, _held) = self.held(volume).await?;
            self.blank(volume, &device).await?;
        }
        if volume.tags.fresh || !volume.tags.block {
            // From now on its user's: nothing of it is written to any more.
            let over = [FRESH, SAME_UUID].into_iter().map(String::from);
            let remove: Vec<String> = over.chain(renewing_tags(&volume.logical.tags).cloned()).collect();
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
        let of_class = class.iter().filter(|class| class.file_system == word).flat_map(|class| &class.mount_options);
        let words: Vec<String> = of_class.chain(flags).cloned().collect();
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
        let is_same = volume.tags.has_same_uuid();
        if let Some(mount) = mounted_at(&self.mounts().await?, path).filter(|_| !is_same) {
            already_staged(volume, mount, &device, wanted)?;
            // The try that mounted it may have ended before it grew.
            return if is_read_only(mount) {
                Ok(())
            } else {
                self.grow_mounted(volume, &device_path(&device), path).await
            };
        }
        if volume.tags.fresh {
            self.ensure_nobody_has_it_open(volume).await?;
        }
        let (device, _held) = self.held(volume).await?;
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
        if is_same {
            self.renew_uuid(volume, &device, &superblock, path).await?;
        }
        let mount = Mount::FileSystem {
            device: device_path(&device),
            target: path.clone(),
            file_system: wanted.file_system.to_string(),
            options: wanted.options.clone(),
        };
        let mounted = self.kernel.mount(&mount).await;
        mounted.map_err(|source| not_mounted(volume, path, &wanted.options, source))?;
        if superblock.needs_growing(volume.bytes()) && !mount_options::is_read_only(&wanted.options) {
            self.grow_with(volume, wanted.file_system, &device_path(&device), path).await?;
        }
        Ok(())
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
        per_mount
            .iter()
            .find(|option| !mount_options::shows(&mount.options, option))
            .map(|option| format!("without {option}"))
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

fn unexpected(volume: &Volume, wanted: FileSystem, content: &Content) -> Error {
    let why = match &volume.tags.copied {
        Some(copied) => format!("it is a copy of {}, and copies are not formatted, whatever they hold", copied.source),
        None => String::from("it was in use before, so it is not formatted"),
    };
    Error::precondition(format!(
        "volume {} should hold {wanted} but holds {content}; {why}: ask for what it holds, or look at it with blkid",
        volume.full_name()
    ))
}
