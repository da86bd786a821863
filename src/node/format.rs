//! The first use of a volume. Only here is anything ever formatted, and only a volume that is tagged `fresh`.

use std::path::Path;

use crate::error::{Error, Result};
use crate::host::file_system::FileSystem;
use crate::host::kernel::{MappedDevice, Stretch};
use crate::host::mkfs_options;
use crate::host::probe::{Content, probe};
use crate::host::superblock::Superblock;
use crate::lvm::tags::{FRESH, file_system_tag, file_system_tags};
use crate::node::Node;
use crate::node::volume::{Volume, device_path};

/// Bytes at the head and the tail of a fresh volume in which file systems, partition tables, RAID and
/// encryption keep their signatures.
const SIGNATURE_BYTES: u64 = 2 << 20;

impl Node {
    /// Makes a file system on a fresh volume that nobody has open, and clears the tag. The device is held by the caller.
    pub(super) async fn format(
        &self,
        volume: &Volume,
        device: &MappedDevice,
        file_system: FileSystem,
    ) -> Result<Superblock> {
        if volume.bytes() < file_system.minimum_bytes() {
            return Err(Error::precondition(format!(
                "volume {} has {} bytes; {file_system} needs at least {}",
                volume.full_name(),
                volume.bytes(),
                file_system.minimum_bytes()
            )));
        }
        let options = self.options_of_mkfs(volume, file_system)?;
        let is_zeroed = self.blank(volume, device).await?;
        let path = device_path(device);
        let mkfs = file_system.mkfs(&path, &options, is_zeroed);
        self.commands.run_ok(&mkfs).await?;
        self.flush_device(volume, &path).await?;
        // Looked at before the tag goes: without it the volume could neither be mounted nor be formatted ever again.
        let superblock = match probe(&*self.kernel, &*self.commands, &path, volume.bytes()).await? {
            Content::FileSystem(found) if found.file_system == file_system => found,
            other => {
                let problem = format!("`{mkfs}` ended well, but {} holds {}", volume.full_name(), other);
                return Err(Error::Internal { problem });
            }
        };
        let now = file_system_tag(file_system.word());
        // One that was made fresh by hand has another, perhaps.
        let before = file_system_tags(&volume.logical.tags).filter(|tag| **tag != now);
        let remove: Vec<String> = before.cloned().chain([String::from(FRESH)]).collect();
        self.change_tags(volume, &[now], &remove).await?;
        Ok(superblock)
    }

    /// The request's, which its tags keep, else those that its class has for its file system. They are checked again:
    /// they may have been meant for another one, and tags can be changed by hand.
    fn options_of_mkfs(&self, volume: &Volume, file_system: FileSystem) -> Result<Vec<String>> {
        let class = self.class(&volume.tags.class).filter(|class| class.file_system == file_system.word());
        let options = match volume.tags.mkfs_options.as_slice() {
            [] => class.map(|class| class.mkfs_options).unwrap_or_default(),
            own => own.to_vec(),
        };
        let refused = |problem| {
            Error::precondition(format!("volume {} cannot be formatted: mkfsOptions: {problem}", volume.full_name()))
        };
        mkfs_options::check(file_system, &options).map_err(refused)?;
        Ok(options)
    }

    /// A fresh volume was never mounted by us; if somebody else has it open, it is not ours to format.
    pub(super) async fn ensure_nobody_has_it_open(&self, volume: &Volume) -> Result<()> {
        if !self.stays_open(volume).await? {
            return Ok(());
        }
        Err(Error::precondition(format!(
            "volume {} is new, but something has its device open, so it is not formatted; close it",
            volume.full_name()
        )))
    }

    /// Takes from a fresh volume what an earlier try, or another tenant of the disk, left at its ends; answers whether all of it
    /// reads as zeroes now. A thin one is given back to its pool, where zeroes would only take room.
    pub(super) async fn blank(&self, volume: &Volume, device: &MappedDevice) -> Result<bool> {
        let whole = Stretch { device: device_path(device), offset: 0, length: volume.bytes() };
        if volume.is_zeroed() && self.give_back(volume, whole).await {
            return Ok(true);
        }
        self.zero_signatures(volume, device).await?;
        Ok(false)
    }

    /// Gives a stretch of a thin volume back to its pool; answers whether it reads as zeroes now. The kernel gives back whole pieces
    /// only, and says nothing of the rest.
    pub(super) async fn give_back(&self, volume: &Volume, stretch: Stretch) -> bool {
        let pool = volume.pool();
        let chunk = pool.and_then(|pool| pool.pool.as_ref()).map_or(0, |pool| pool.chunk_bytes);
        let is_whole = |bytes: u64| chunk.is_power_of_two() && bytes.is_multiple_of(chunk);
        is_whole(stretch.offset) && is_whole(stretch.length) && self.kernel.discard(stretch).await.is_ok()
    }

    pub(super) async fn zero_signatures(&self, volume: &Volume, device: &MappedDevice) -> Result<()> {
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

    async fn flush_device(&self, volume: &Volume, device: &Path) -> Result<()> {
        let failed = |source| Error::kernel(format!("could not flush {}", volume.full_name()), source);
        self.kernel.flush(device).await.map_err(failed)
    }
}
