//! The file systems a volume can carry, and the commands that make and grow them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::host::commands::Command;

const MIB: u64 = 1 << 20;

/// A file system that this driver makes, mounts and grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileSystem {
    /// ext4; ext2 and ext3 are mounted by the same code of the kernel and count as ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs on one device.
    Btrfs,
}

impl FileSystem {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// The kernel's word for it, also the word in requests and in the classes file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The smallest device, in bytes, that it can be made on and grown from.
    pub fn minimum_bytes(self) -> u64 {
        match self {
            // From here on mke2fs finds room for a journal.
            Self::Ext4 => 2 * MIB,
            // mkfs.xfs refuses anything smaller.
            Self::Xfs => 300 * MIB,
            // mkfs.btrfs is content with 109 MiB, but the kernel resizes to no less than 256 MiB, so
            // a smaller one would be stuck until it is expanded beyond that.
            Self::Btrfs => 256 * MIB,
        }
    }

    /// The command that makes it on a device whose first megabytes have been zeroed, overwriting whatever
    /// blkid would still find there without asking.
    ///
    /// The device is never discarded: a volume comes discarded or wiped, and on many disks discarding
    /// takes most of the time. `options` are words that [`check`](super::mkfs_options::check) let pass. A device that
    /// `is_zeroed` reads as zeroes wherever nothing was written yet, and writing zeroes would take room in its pool: 165 MiB
    /// instead of 5 for ext4 on 10 GiB.
    pub fn mkfs(self, device: &Path, options: &[String], is_zeroed: bool) -> Command {
        match self {
            Self::Ext4 => {
                let (extended, others) = split_extended(options, is_zeroed);
                // mke2fs keeps only the last -E, so the caller's must be joined with ours; the last
                // word wins, which lets the caller ask for a discard. The journal is zeroed (no
                // lazy_journal_init): stale blocks of a thick volume could look like a journal.
                let command = Command::new("mkfs.ext4").argument("-q").argument("-F");
                command.argument("-E").argument(extended).arguments(others).argument(device)
            }
            Self::Xfs => command_without_discard("mkfs.xfs", device, options),
            Self::Btrfs => command_without_discard("mkfs.btrfs", device, options),
        }
    }

    /// Whether the kernel mounts it beside another one with the same UUID only with trouble.
    pub fn needs_own_uuid(self) -> bool {
        matches!(self, Self::Xfs | Self::Btrfs)
    }

    /// The command that gives it a new UUID, while it is not mounted and its log is empty. It must be looked at whether it did:
    /// `xfs_db` ends well also when it refuses.
    pub fn renew_uuid(self, device: &Path) -> Command {
        match self {
            Self::Ext4 => Command::new("tune2fs").arguments(["-U", "random"]).argument(device),
            // What xfs_admin does, which is a shell script.
            Self::Xfs => Command::new("xfs_db").arguments(["-x", "-c", "uuid generate"]).argument(device),
            // Without -f it asks. -m changes what tells it apart, not each of its blocks.
            Self::Btrfs => Command::new("btrfstune").arguments(["-f", "-m"]).argument(device),
        }
    }

    /// The command that makes the log of an xfs anew, which must be all zeroes, to go on from a cycle. Only what is not in its place
    /// yet is lost with a log.
    pub fn make_log_anew(device: &Path, cycle: u32) -> Command {
        Command::new("xfs_db").arguments(["-x", "-c", &format!("logformat -c {cycle}")]).argument(device)
    }

    /// The command that grows it, while it is mounted, to the size of its device.
    pub fn grow(self, device: &Path, mounted_at: &Path) -> Command {
        match self {
            Self::Ext4 => Command::new("resize2fs").argument(device),
            Self::Xfs => Command::new("xfs_growfs").argument(mounted_at),
            Self::Btrfs => Command::new("btrfs").arguments(["filesystem", "resize", "max"]).argument(mounted_at),
        }
    }
}

fn command_without_discard(program: &'static str, device: &Path, options: &[String]) -> Command {
    Command::new(program).arguments(["-q", "-f", "-K"]).arguments(options).argument(device)
}

/// The value of one `-E` for mke2fs, ours first, and the options other than `-E`.
fn split_extended(options: &[String], is_zeroed: bool) -> (String, Vec<&String>) {
    let ours = if is_zeroed { "nodiscard,assume_storage_prezeroed=1" } else { "nodiscard" };
    let mut extended = String::from(ours);
    let mut others = Vec::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        if word == "-E" {
            if let Some(value) = words.next() {
                extended.push(',');
                extended.push_str(value);
            }
        } else {
            others.push(word);
            // The value of another option may be "-E" only by mistake, but is its value all the same.
            if word != "-j" {
                others.extend(words.next());
            }
        }
    }
    (extended, others)
}

impl fmt::Display for FileSystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for FileSystem {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|file_system| file_system.word() == text)
            .ok_or_else(|| format!("{text:?} is no file system here; use ext4, xfs or btrfs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    fn mkfs(file_system: FileSystem, options: &str) -> String {
        file_system.mkfs(Path::new("/dev/a/b"), &words(options), false).to_string()
    }

    #[test]
    fn every_file_system_reads_back_from_its_word() {
        for file_system in FileSystem::ALL {
            assert_eq!(file_system.to_string().parse(), Ok(file_system));
        }
        let problem = "zfs".parse::<FileSystem>().unwrap_err();
        assert_eq!(problem, "\"zfs\" is no file system here; use ext4, xfs or btrfs");
    }

    #[test]
    fn making_one_never_asks_and_never_discards() {
        assert_eq!(mkfs(FileSystem::Ext4, ""), "mkfs.ext4 -q -F -E nodiscard /dev/a/b");
        let zeroed = FileSystem::Ext4.mkfs(Path::new("/dev/a/b"), &words("-E stride=16"), true).to_string();
        assert_eq!(zeroed, "mkfs.ext4 -q -F -E nodiscard,assume_storage_prezeroed=1,stride=16 /dev/a/b");
        assert_eq!(mkfs(FileSystem::Xfs, "-m crc=1"), "mkfs.xfs -q -f -K -m crc=1 /dev/a/b");
        assert_eq!(mkfs(FileSystem::Btrfs, "-M"), "mkfs.btrfs -q -f -K -M /dev/a/b");
    }

    #[test]
    fn extended_options_of_ext4_become_one_and_the_callers_come_last() {
        assert_eq!(
            mkfs(FileSystem::Ext4, "-E stride=16 -j -m 0 -E discard"),
            "mkfs.ext4 -q -F -E nodiscard,stride=16,discard -j -m 0 /dev/a/b"
        );
    }

    #[test]
    fn growing_names_the_device_or_the_place_as_each_tool_wants_it() {
        let command =
            |file_system: FileSystem| file_system.grow(Path::new("/dev/a/b"), Path::new("/mnt/x")).to_string();
        assert_eq!(command(FileSystem::Ext4), "resize2fs /dev/a/b");
        assert_eq!(command(FileSystem::Xfs), "xfs_growfs /mnt/x");
        assert_eq!(command(FileSystem::Btrfs), "btrfs filesystem resize max /mnt/x");
    }
}
