//! `NodeGetVolumeStats`: the room of a volume as its user sees it.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::kernel::FileSystemUsage;
use crate::node::Node;
use crate::node::device::{resolved, shows_file_system};

/// How long a file system may take to answer; a hung device must not hold the caller.
const PATIENCE: Duration = Duration::from_secs(10);

/// The room of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stats {
    /// Of a mounted file system.
    FileSystem(FileSystemUsage),
    /// Of a raw block volume: its size, bytes.
    Block(u64),
}

impl Node {
    /// The room of the volume that its user sees at the path.
    pub async fn stats(&self, volume_id: &str, path: &Path) -> Result<Stats> {
        let name = self.known_name(volume_id)?;
        let volume = self.volume(&name).await?;
        let slow = || Error::Unavailable { problem: format!("volume {name} at {} does not answer", path.display()) };
        tokio::time::timeout(PATIENCE, self.ensure_at(&volume, path)).await.map_err(|_| slow())??;
        let target = resolved(path).await;
        let device = self.active_device(&volume).await?.ok_or_else(|| Error::no_volume(volume_id))?;
        if !self.mounts().await?.iter().any(|mount| mount.target == target && shows_file_system(mount, &device)) {
            return Ok(Stats::Block(volume.bytes()));
        }
        let usage = tokio::time::timeout(PATIENCE, self.kernel.usage(path)).await.map_err(|_| slow())?;
        usage
            .map(Stats::FileSystem)
            .map_err(|source| Error::kernel(format!("could not measure {}", path.display()), source))
    }
}
