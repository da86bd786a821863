//! Growing a mounted file system to the size of its device. Whether that would change anything tells
//! [`super::superblock::Found::can_grow_on`]; each command does nothing when it would not.

use std::path::Path;

use super::commands::{Command, Commands};
use super::file_system::FileSystem;
use crate::error::Result;

/// The command that grows the file system of `device`, mounted at `target`.
pub fn command(file_system: FileSystem, device: &Path, target: &Path) -> Command {
    match file_system {
        FileSystem::Ext4 => Command::new("resize2fs").argument(device),
        FileSystem::Xfs => Command::new("xfs_growfs").argument("-d").argument(target),
        FileSystem::Btrfs => Command::new("btrfs").arguments(["filesystem", "resize", "max"]).argument(target),
    }
}

/// Grows the file system of `device`, mounted at `target`.
pub async fn grow(commands: &dyn Commands, file_system: FileSystem, device: &Path, target: &Path) -> Result<()> {
    commands.run_ok(&command(file_system, device, target)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ext4_grows_by_its_device_and_the_others_by_their_mount() {
        let text = |file_system| command(file_system, Path::new("/dev/dm-1"), Path::new("/mnt")).to_string();
        assert_eq!(text(FileSystem::Ext4), "resize2fs /dev/dm-1");
        assert_eq!(text(FileSystem::Xfs), "xfs_growfs -d /mnt");
        assert_eq!(text(FileSystem::Btrfs), "btrfs filesystem resize max /mnt");
    }
}
