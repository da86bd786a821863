//! File systems that do not mount beside another one of the same UUID, or not always: xfs and btrfs, as far as their UUIDs and
//! their logs go.

use std::io;

use crate::file_system::{BLOCK, ensure_may_be_made};
use crate::machine::{Fault, Machine};

/// Where the superblock of btrfs lies.
const BTRFS: usize = 64 << 10;
/// Where a fake xfs keeps whether its log holds something.
const XFS_LOG: usize = 8 << 10;
/// What stands in the log: nothing, something, or what belongs to an earlier state of the file system.
const EMPTY: u64 = 0;
const FULL: u64 = 1;
const STALE: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Xfs,
    Btrfs,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Xfs, Self::Btrfs];

    /// The kernel's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Where it is recognised, and by what.
    pub fn magic(self) -> (usize, &'static [u8]) {
        match self {
            Self::Xfs => (0, b"XFSB"),
            Self::Btrfs => (BTRFS + 0x40, b"_BHRfS_M"),
        }
    }

    /// Where its UUID stands, 16 bytes.
    pub fn uuid(self) -> usize {
        match self {
            Self::Xfs => 32,
            Self::Btrfs => BTRFS + 0x20,
        }
    }

    /// Where it is noted what stands in its log.
    fn log(self) -> usize {
        match self {
            Self::Xfs => XFS_LOG,
            Self::Btrfs => BTRFS + 0x60,
        }
    }
}

impl Machine {
    /// Which of them is on a device.
    pub fn copied_kind(&self, minor: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| {
            let (at, magic) = kind.magic();
            self.bytes_of(minor) >= at + magic.len() && self.read_device(minor, at, magic.len()) == magic
        })
    }

    /// `mkfs.xfs` or `mkfs.btrfs`.
    pub fn make_copied(&mut self, minor: u32, kind: Kind) {
        ensure_may_be_made(self, minor);
        let (bytes, (at, magic)) = (self.bytes_of(minor) as u64, kind.magic());
        let block = u32::try_from(BLOCK).unwrap();
        let mut put = |at: usize, bytes: &[u8]| self.write_device(minor, at, bytes).unwrap();
        match kind {
            Kind::Xfs => {
                put(4, &block.to_be_bytes());
                put(8, &(bytes / u64::from(block)).to_be_bytes());
                put(84, &u32::try_from(bytes / u64::from(block) / 4).unwrap().to_be_bytes());
                // The log: its first block, how many, and as which power of two the group's blocks are counted.
                put(48, &((XFS_LOG / BLOCK) as u64).to_be_bytes());
                put(96, &1_u32.to_be_bytes());
                put(124, &[31]);
            }
            Kind::Btrfs => {
                put(BTRFS + 0x70, &bytes.to_le_bytes());
                put(BTRFS + 0x90, &block.to_le_bytes());
            }
        }
        put(at, magic);
        self.renew(minor, kind);
    }

    /// What `xfs_db` or `btrfstune` does to give it a new UUID. The first refuses while there is something in the log, and ends
    /// well all the same; the second leaves a log that belongs to nothing any more.
    pub fn renew_uuid(&mut self, minor: u32, kind: Kind) {
        assert_eq!(self.user_count(minor), 0, "the UUID of a file system is changed that is in use");
        assert_eq!(self.copied_kind(minor), Some(kind), "the UUID of another file system is changed");
        match (kind, self.log_of(minor, kind)) {
            // It writes the log anew first.
            (Kind::Xfs, EMPTY) if self.fault == Some(Fault::BreaksOff) => self.put_log(minor, kind, STALE),
            (_, EMPTY) => self.renew(minor, kind),
            (Kind::Xfs, _) => {}
            (Kind::Btrfs, _) => {
                self.renew(minor, kind);
                self.put_log(minor, kind, STALE);
            }
        }
    }

    /// What `xfs_db` does to make a log anew, which it takes up only when it is all zeroes or well written.
    pub fn make_log_anew(&mut self, minor: u32) {
        assert_eq!(self.log_of(minor, Kind::Xfs), EMPTY, "a log is made anew that holds something");
    }

    fn renew(&mut self, minor: u32, kind: Kind) {
        let number = u128::from(self.number());
        self.write_device(minor, kind.uuid(), &number.to_be_bytes()).unwrap();
    }

    /// Whether it can be mounted with such options: then its log is empty.
    pub fn mount_copied(&mut self, minor: u32, kind: Kind, options: &[String]) -> io::Result<()> {
        if self.log_of(minor, kind) == STALE {
            return Err(io::Error::from_raw_os_error(if kind == Kind::Xfs { 117 } else { 5 }));
        }
        let uuid = |minor: u32| self.read_device(minor, kind.uuid(), 16);
        let is_same =
            |other: u32| other != minor && self.copied_kind(other) == Some(kind) && uuid(other) == uuid(minor);
        let mut mounted = self.mounts.iter().map(|mount| mount.device.minor);
        // btrfs does since Linux 6.7.
        let minds = kind == Kind::Xfs && !options.iter().any(|option| option == "nouuid");
        if minds && mounted.any(|other| self.devices.contains_key(&other) && is_same(other)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.put_log(minor, kind, EMPTY);
        Ok(())
    }

    /// What was synced while it is mounted stands in its log until it is unmounted.
    pub fn note_synced(&mut self, minor: u32) {
        if let Some(kind) = self.copied_kind(minor) {
            self.put_log(minor, kind, FULL);
        }
    }

    /// The end of the last mount.
    pub fn end_of_mount(&mut self, minor: u32) {
        let is_running = self.devices.get(&minor).is_some_and(|device| !device.suspended);
        if let Some(kind) = is_running.then(|| self.copied_kind(minor)).flatten() {
            self.put_log(minor, kind, EMPTY);
            self.flush_device(minor);
        }
    }

    fn log_of(&self, minor: u32, kind: Kind) -> u64 {
        u64::from_le_bytes(*self.read_device(minor, kind.log(), 8).first_chunk().unwrap())
    }

    fn put_log(&mut self, minor: u32, kind: Kind, log: u64) {
        if self.log_of(minor, kind) != log {
            self.write_device(minor, kind.log(), &log.to_le_bytes()).unwrap();
        }
    }
}
