//! The file systems that volumes can have, and making them.

use std::fmt;
use std::path::Path;

use super::commands::Command;
use super::mkfs_options::MkfsOptions;
use crate::error::{Error, Result};

/// How much must be zeroed at the start and at the end of a new device before [`FileSystem::make`], bytes: where
/// mkfs, blkid, udev and the kernel look for traces of what was there before. RAID and partition tables keep
/// some of theirs at the end.
pub const EDGE: u64 = 1 << 20;

/// A file system that a volume can be formatted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FileSystem {
    /// What a volume gets whose file system nobody named.
    #[default]
    Ext4,
    /// For large files and many parallel writers.
    Xfs,
    /// With checksums of the data and compression.
    Btrfs,
}

impl FileSystem {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// Reads a name as CSI's `fs_type` has it; empty means the default. `field` is named in the error.
    pub fn parse(field: &str, name: &str) -> Result<Self> {
        if name.is_empty() {
            return Ok(Self::default());
        }
        let known = Self::ALL.into_iter().find(|file_system| file_system.name() == name);
        known.ok_or_else(|| {
            Error::invalid(field, format!("{name:?} is no file system of this driver: use ext4, xfs or btrfs"))
        })
    }

    /// The name, as mount(2) and CSI have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The smallest device that it can be made on and grown from, bytes.
    pub fn minimum_size(self) -> u64 {
        match self {
            // Below, there is no room for a journal with blocks of 1 KiB and some files.
            Self::Ext4 => 4 << 20,
            // mkfs.xfs refuses less.
            Self::Xfs => 300 << 20,
            // mkfs.btrfs takes 109 MiB, but the kernel resizes to nothing below 256 MiB.
            Self::Btrfs => 256 << 20,
        }
    }

    /// The programs that are needed to make and to grow it.
    pub fn programs(self) -> [&'static str; 2] {
        match self {
            Self::Ext4 => ["mkfs.ext4", "resize2fs"],
            Self::Xfs => ["mkfs.xfs", "xfs_growfs"],
            Self::Btrfs => ["mkfs.btrfs", "btrfs"],
        }
    }

    /// The command that makes it on `device`. It never asks, and never discards: a discard of the whole
    /// device is what makes mkfs slow, and the volume's former data was wiped when its last owner left.
    ///
    /// `reads_as_zeroes`: the device is a new thin volume of a pool that zeroes; then ext4 leaves its tables
    /// and journal unwritten (5 MiB of the pool instead of 165 MiB). Wrong for any other device.
    pub fn make(self, device: &Path, reads_as_zeroes: bool, options: &MkfsOptions) -> Command {
        let [program, _] = self.programs();
        let always: &[(&str, &str)] = match self {
            Self::Ext4 if reads_as_zeroes => &[("-q", ""), ("-F", ""), ("-E", "nodiscard,assume_storage_prezeroed=1")],
            Self::Ext4 => &[("-q", ""), ("-F", ""), ("-E", "nodiscard")],
            Self::Xfs | Self::Btrfs => &[("-q", ""), ("-f", ""), ("-K", "")],
        };
        let mut arguments: Vec<(String, String)> =
            always.iter().map(|(flag, value)| ((*flag).to_owned(), (*value).to_owned())).collect();
        // mke2fs takes only the last of several -E or -O: values of one flag become one list.
        for (flag, value) in options.pairs() {
            match arguments.iter_mut().find(|(known, _)| known == flag) {
                Some((_, list)) if !list.is_empty() => *list = format!("{list},{value}"),
                Some(_) => {}
                None => arguments.push((flag.clone(), value.clone())),
            }
        }
        let words = arguments.into_iter().flat_map(|(flag, value)| [flag, value]).filter(|word| !word.is_empty());
        Command::new(program).arguments(words).argument(device)
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(file_system: FileSystem, reads_as_zeroes: bool, options: &str) -> String {
        let options = MkfsOptions::parse("mkfs", file_system, options).unwrap();
        file_system.make(Path::new("/dev/dm-7"), reads_as_zeroes, &options).to_string()
    }

    #[test]
    fn a_file_system_is_known_by_its_name() {
        for file_system in FileSystem::ALL {
            assert_eq!(FileSystem::parse("fs_type", file_system.name()).unwrap(), file_system);
        }
        assert_eq!(FileSystem::parse("fs_type", "").unwrap(), FileSystem::Ext4);
        for wrong in ["ext3", "EXT4", "ntfs", " xfs"] {
            let error = FileSystem::parse("fs_type", wrong).unwrap_err().to_string();
            assert!(error.contains("fs_type") && error.contains(wrong) && error.contains("xfs"), "{error}");
        }
    }

    #[test]
    fn mkfs_never_asks_and_never_discards() {
        assert_eq!(made(FileSystem::Ext4, false, ""), "mkfs.ext4 -q -F -E nodiscard /dev/dm-7");
        let thin = "mkfs.ext4 -q -F -E nodiscard,assume_storage_prezeroed=1 /dev/dm-7";
        assert_eq!(made(FileSystem::Ext4, true, ""), thin);
        for reads_as_zeroes in [false, true] {
            assert_eq!(made(FileSystem::Xfs, reads_as_zeroes, ""), "mkfs.xfs -q -f -K /dev/dm-7");
            assert_eq!(made(FileSystem::Btrfs, reads_as_zeroes, ""), "mkfs.btrfs -q -f -K /dev/dm-7");
        }
    }

    #[test]
    fn options_for_the_same_flag_become_one_list() {
        let options = "-b 4096 -E stride=16,stripe_width=64 -E lazy_itable_init=0 -O quota -O ^64bit";
        let expected = "mkfs.ext4 -q -F -E nodiscard,stride=16,stripe_width=64,lazy_itable_init=0 -b 4096 \
                        -O quota,^64bit /dev/dm-7";
        assert_eq!(made(FileSystem::Ext4, false, options), expected);
        assert_eq!(made(FileSystem::Xfs, false, "-K -m crc=1"), "mkfs.xfs -q -f -K -m crc=1 /dev/dm-7");
    }
}
