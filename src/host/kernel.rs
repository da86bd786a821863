//! Asking the kernel: the second of the two seams to the machine. Mounts, block devices and
//! device-mapper; everything here needs privileges or real devices, which is why it is a seam.

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A device's major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// The driver's number.
    pub major: u32,
    /// The device's number within the driver.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.major, self.minor)
    }
}

/// A line of `/proc/self/mountinfo`, unescaped (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The device that the mounted file system says its files are on.
    pub device: DeviceNumber,
    /// What of the file system is mounted: `/` or, for a bind mount, the path within it.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Options of this mount: `ro`, `noatime`…
    pub options: Vec<String>,
    /// The file system's type.
    pub file_system: String,
    /// The mount source as the file system shows it.
    pub source: String,
    /// Options of the file system (the superblock).
    pub super_options: Vec<String>,
}

/// A mount to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A file system from a device.
    FileSystem {
        /// The block device.
        device: PathBuf,
        /// An existing folder.
        target: PathBuf,
        /// `ext4`, `xfs`, `btrfs`.
        file_system: String,
        /// Mount options as mount(8) writes them, each one element; quotes and commas are kept.
        options: Vec<String>,
    },
    /// What lies at `source` shown at `target` too, with per-mount options (`ro`, `noatime`, `nosuid`…)
    /// put on the new mount only.
    Bind {
        /// A folder or a device node.
        source: PathBuf,
        /// An existing folder or file.
        target: PathBuf,
        /// Per-mount options; anything else must have been left out by the caller.
        options: Vec<String>,
    },
}

/// The room of a mounted file system (statvfs(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileSystemUsage {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes free for unprivileged users.
    pub available_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Inodes in all; 0 where the file system makes them as needed.
    pub total_inodes: u64,
    /// Inodes free.
    pub free_inodes: u64,
}

/// A block device that the kernel knows (`/sys/class/block`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BlockDevice {
    /// The device node.
    pub path: PathBuf,
    /// Its number.
    pub number: DeviceNumber,
    /// Its size in bytes.
    pub size: u64,
    /// Whether a device that is no LVM volume sits on top of it (RAID, multipath, encryption…), so that
    /// what is found on it belongs to that one.
    pub is_component: bool,
    /// For device-mapper devices their UUID, which tells LVM's volumes (`LVM-…`).
    pub mapper_uuid: Option<String>,
}

/// A device-mapper device, live state (`DM_LIST_DEVICES`, `DM_DEV_STATUS`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedDevice {
    /// Its name: for LVM `group-volume`, hyphens doubled.
    pub name: String,
    /// Its UUID: for LVM `LVM-`, the group's and the volume's UUIDs without hyphens.
    pub uuid: String,
    /// Its number; the node is `/dev/dm-<minor>`.
    pub number: DeviceNumber,
    /// How many have it open: mounts, other devices, programs.
    pub open_count: u32,
    /// Whether its input and output are held back.
    pub suspended: bool,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// What a thin pool's device says of itself (`DM_TABLE_STATUS`; the kernel's thin-provisioning.rst). Data is counted in the
/// pool's pieces, metadata in blocks of 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// What it can do now.
    pub mode: PoolMode,
    /// Whether its metadata must be checked before it is written to again.
    pub needs_check: bool,
    /// Counts lvm's changes of it.
    pub transaction_id: u64,
    /// Pieces that are left when the kernel tells that it fills; 0 when it does not.
    pub low_water: u64,
    /// Pieces in use.
    pub used_data: u64,
    /// Pieces in all.
    pub total_data: u64,
    /// Blocks of metadata in use.
    pub used_metadata: u64,
    /// Blocks of metadata in all.
    pub total_metadata: u64,
    /// The block in which a snapshot of its metadata begins that is held, for somebody to read.
    pub metadata_snapshot: Option<u64>,
}

/// What a thin pool can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// Everything.
    Writable,
    /// Everything but giving out room.
    OutOfDataSpace,
    /// Reading only: its metadata is full or broken.
    ReadOnly,
    /// Nothing.
    Failed,
}

/// What a thick snapshot's device says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotStatus {
    /// It holds what its volume held.
    Kept {
        /// 512 bytes each, of what was overwritten since.
        used_sectors: u64,
        /// For how many there is room.
        total_sectors: u64,
    },
    /// There was no room left for what was overwritten: its content is gone.
    Lost,
}

impl SnapshotStatus {
    /// Whether what it holds can be read, and goes on to be: a full one is lost with the next write.
    pub fn is_whole(self) -> bool {
        match self {
            Self::Kept { used_sectors, total_sectors } => used_sectors < total_sectors,
            Self::Lost => false,
        }
    }
}

/// What is copied from one device to another, at the same place in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copying {
    /// The device that is read.
    pub from: PathBuf,
    /// The device that is written to.
    pub to: PathBuf,
    /// Where, bytes; multiples of 4,096.
    pub ranges: Vec<Range<u64>>,
    /// Whether the other device reads as zeroes where nothing is written, so that zeroes are passed over.
    pub is_zeroed: bool,
}

/// A stretch of a device, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The block device.
    pub device: PathBuf,
    /// Where it starts.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// A device that is kept open, so that it cannot go away and its number be given to another one. Nothing is read or
/// written through it.
#[derive(Debug)]
pub struct Held {
    _by: Box<dyn Any + Send + Sync>,
}

impl Held {
    /// Kept open as long as this is there.
    pub fn by(keeper: impl Any + Send + Sync) -> Self {
        Self { _by: Box::new(keeper) }
    }
}

/// What the node asks of the kernel. Each call may block in the kernel; implementations keep that away
/// from the async threads.
#[tonic::async_trait]
pub trait Kernel: Send + Sync {
    /// Makes a mount.
    async fn mount(&self, mount: &Mount) -> io::Result<()>;
    /// Takes away the topmost mount at `target`; never lazily, never by force, never through a symbolic link.
    async fn unmount(&self, target: &Path) -> io::Result<()>;
    /// The mount table of this process.
    async fn mounts(&self) -> io::Result<Vec<MountEntry>>;
    /// The number of the block device node at `path`, symbolic links followed; `None` for anything else.
    async fn device_at(&self, path: &Path) -> io::Result<Option<DeviceNumber>>;
    /// The room of the file system mounted at or above `path`.
    async fn usage(&self, path: &Path) -> io::Result<FileSystemUsage>;
    /// Has what was written to the file system of that folder reach its disk (syncfs(2)). Waits as long as that takes.
    async fn sync(&self, _folder: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// All block devices with room, in the order of their names; LVM's own volumes may be left out, since
    /// nothing is ever looked for on them.
    async fn block_devices(&self) -> io::Result<Vec<BlockDevice>>;
    /// Reads from devices themselves, past the page cache where they allow it; one answer per stretch, in their
    /// order. Offset and length are multiples of 4,096. A device that does not answer within two seconds is given up
    /// (`TimedOut`), holds up no other, and fails at once while a read of it still hangs.
    async fn read(&self, stretches: Vec<Stretch>) -> Vec<io::Result<Vec<u8>>>;
    /// Overwrites with zeroes; the data is on its way to the device, not yet flushed.
    async fn zero(&self, stretch: Stretch) -> io::Result<()>;
    /// Tells the device that the data is not needed any more.
    async fn discard(&self, stretch: Stretch) -> io::Result<()>;
    /// Keeps a device from going away until the answer is dropped. It counts as open by one more meanwhile.
    async fn hold(&self, device: &Path) -> io::Result<Held>;
    /// Makes everything written so far survive a power cut.
    async fn flush(&self, device: &Path) -> io::Result<()>;
    /// Makes a device refuse writes, or take them again.
    async fn set_read_only(&self, device: &Path, read_only: bool) -> io::Result<()>;

    /// All device-mapper devices with their live state.
    async fn mapped_devices(&self) -> io::Result<Vec<MappedDevice>>;
    /// The device-mapper device of that UUID. A node has hundreds, and most calls are about one.
    async fn mapped_device(&self, uuid: &str) -> io::Result<Option<MappedDevice>> {
        Ok(self.mapped_devices().await?.into_iter().find(|device| device.uuid == uuid))
    }

    /// What the thin pool's device of that UUID says of itself; nothing while it is not there, or where there are no pools. One
    /// that does not answer within two seconds is given up (`TimedOut`).
    async fn pool_status(&self, _uuid: &str) -> io::Result<Option<PoolStatus>> {
        Ok(None)
    }

    /// The same of a thick snapshot's device.
    async fn snapshot_status(&self, _uuid: &str) -> io::Result<Option<SnapshotStatus>> {
        Ok(None)
    }

    /// Waits until something happened to a device of device-mapper's that it tells of: a pool fills, a device appears. What
    /// happened between two calls counts; the first call answers at once.
    async fn mapper_event(&self) -> io::Result<()> {
        std::future::pending().await
    }

    /// Sends a message to the target of the device of that UUID (a thin pool's are in the kernel's thin-provisioning.rst).
    async fn message(&self, _uuid: &str, _message: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Holds back the writes to the device of that UUID, after what was written so far has reached the disk; a file system that is
    /// mounted from it is frozen. Waits as long as that takes.
    async fn suspend(&self, _uuid: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sets a suspended device going again.
    async fn resume(&self, _uuid: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Copies from one device to another, past the page cache; not flushed.
    async fn copy(&self, _copying: Copying) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
