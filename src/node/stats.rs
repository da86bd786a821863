//! `NodeGetVolumeStats`: the room of a volume as its user sees it.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::kernel::{FileSystemUsage, MountEntry};
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
        let missing = || Error::NotFound { what: format!("volume {name} at {}", path.display()) };
        let device = self.active_device(&volume).await?.ok_or_else(missing)?;
        let target = resolved(path).await;
        let shows_it = |mount: &MountEntry| mount.target == target && shows_file_system(mount, &device);
        if !self.mounts().await?.iter().any(shows_it) {
            let number = tokio::time::timeout(PATIENCE, self.kernel.device_at(path)).await.map_err(|_| slow())?;
            let is_it = number.is_ok_and(|number| number == Some(device.number));
            return if is_it { Ok(Stats::Block(volume.bytes())) } else { Err(missing()) };
        }
        let usage = tokio::time::timeout(PATIENCE, self.kernel.usage(path)).await.map_err(|_| slow())?;
        // Unmounted meanwhile, the path shows the file system beneath.
        if !self.mounts().await?.iter().any(shows_it) {
            return Err(missing());
        }
        usage
            .map(Stats::FileSystem)
            .map_err(|source| Error::kernel(format!("could not measure {}", path.display()), source))
    }
}
