//! Recognising a file system from the first bytes of its device. Pure.

use super::file_system::FileSystem;

/// How many bytes of the head [`recognise`] wants: btrfs's superblock lies at 64 KiB.
pub const RECOGNISED_BY: u64 = 128 << 10;

/// A file system that was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Which one.
    pub file_system: FileSystem,
    /// The size of the file system, which may be smaller than its device, bytes.
    pub bytes: u64,
    /// The size of its blocks, bytes.
    pub block_size: u64,
    /// By how much the device must be larger than the file system for it to grow at all, bytes: a rest
    /// at the end may be too small for what each part of it must hold.
    pub least_growth: u64,
    /// Whether the kernel has noted damage in it that only a check can repair.
    pub has_error_flag: bool,
}

impl Found {
    /// Whether growing the file system on a device of this many bytes would change anything.
    pub fn can_grow_on(&self, device_bytes: u64) -> bool {
        device_bytes.saturating_sub(self.bytes) >= self.least_growth
    }
}

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing: no signature anywhere and only zeroes at the start.
    Blank,
    /// One of the file systems that volumes can have.
    Found(Found),
    /// Something else, described for people.
    Other(String),
}

/// Recognises the file systems that volumes can have; `None` when there are no traces of one of them.
pub fn recognise(head: &[u8]) -> Option<Content> {
    let seen: Vec<Content> = [ext(head), xfs(head), btrfs(head)].into_iter().flatten().collect();
    match seen.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(Content::Other("the signatures of several file systems".into())),
    }
}

/// fs/ext4/ext4.h, `struct ext4_super_block` at 1,024; little-endian.
fn ext(head: &[u8]) -> Option<Content> {
    const HAS_JOURNAL: u32 = 0x4;
    const INCOMPATIBLE_64_BIT: u32 = 0x80;
    const INCOMPATIBLE_JOURNAL_DEVICE: u32 = 0x8;
    /// What ext3 knows: `filetype`, `recover`, `journal_dev`, `meta_bg`; `sparse_super`, `large_file`, `btree_dir`.
    const EXT3_INCOMPATIBLE: u32 = 0x2 | 0x4 | 0x8 | 0x10;
    const EXT3_READ_ONLY: u32 = 0x1 | 0x2 | 0x4;
    const STATE_ERROR: u16 = 2;
    /// The page size, to which mke2fs and resize2fs round a device's size down.
    const ROUNDING: u64 = 4096;

    let at = 1024;
    if u16_at(head, at + 0x38)? != 0xef53 {
        return None;
    }
    let [compatible, incompatible, read_only] =
        [u32_at(head, at + 0x5c)?, u32_at(head, at + 0x60)?, u32_at(head, at + 0x64)?];
    if incompatible & INCOMPATIBLE_JOURNAL_DEVICE != 0 {
        return Some(Content::Other("an external journal of ext4".into()));
    }
    if incompatible & !EXT3_INCOMPATIBLE == 0 && read_only & !EXT3_READ_ONLY == 0 {
        let name = if compatible & HAS_JOURNAL == 0 { "an ext2 file system" } else { "an ext3 file system" };
        return Some(Content::Other(name.into()));
    }
    let block_size = 1024_u64.checked_shl(u32_at(head, at + 0x18)?).filter(|size| (1024..=65536).contains(size));
    let (Some(block_size), blocks_per_group @ 1..) = (block_size, u64::from(u32_at(head, at + 0x20)?)) else {
        return Some(damaged(FileSystem::Ext4));
    };
    let high = if incompatible & INCOMPATIBLE_64_BIT == 0 { 0 } else { u64::from(u32_at(head, at + 0x150)?) };
    let blocks = high << 32 | u64::from(u32_at(head, at + 0x4)?);
    let first = u64::from(u32_at(head, at + 0x14)?);
    let inode_table = u64::from(u32_at(head, at + 0x28)?) * u64::from(u16_at(head, at + 0x58)?) / block_size;
    // A new group must hold two bitmaps and its part of the inode table.
    let is_last_group_full = blocks.saturating_sub(first) % blocks_per_group == 0;
    let least_blocks = if is_last_group_full { 2 + inode_table } else { 1 };
    let Some(bytes) = blocks.checked_mul(block_size).filter(|bytes| *bytes > 0) else {
        return Some(damaged(FileSystem::Ext4));
    };
    Some(Content::Found(Found {
        file_system: FileSystem::Ext4,
        bytes,
        block_size,
        least_growth: (least_blocks * block_size).max(ROUNDING),
        has_error_flag: u16_at(head, at + 0x3a)? & STATE_ERROR != 0,
    }))
}

/// `fs/xfs/libxfs/xfs_format.h`, `struct xfs_dsb` at 0; big-endian, so the bytes of each number are swapped.
fn xfs(head: &[u8]) -> Option<Content> {
    /// `XFS_MIN_AG_BLOCKS`: a smaller rest is left over when growing.
    const LEAST_GROUP: u64 = 64;
    const INCOMPATIBLE_NEEDS_REPAIR: u32 = 0x10;

    if head.get(..4)? != b"XFSB" {
        return None;
    }
    let block_size = u64::from(u32_at(head, 4)?.swap_bytes());
    let blocks = u64_at(head, 8)?.swap_bytes();
    let blocks_per_group = u64::from(u32_at(head, 84)?.swap_bytes());
    let bytes = blocks.checked_mul(block_size).filter(|bytes| *bytes > 0);
    let (Some(bytes), true, 1..) = (bytes, (512..=65536).contains(&block_size), blocks_per_group) else {
        return Some(damaged(FileSystem::Xfs));
    };
    // mkfs takes this mark away as its last step.
    if *head.get(126)? != 0 {
        return Some(Content::Other("an xfs whose mkfs was interrupted".into()));
    }
    let version = u16_at(head, 100)?.swap_bytes() & 0xf;
    let incompatible = u32_at(head, 216)?.swap_bytes();
    let least_blocks = if blocks % blocks_per_group == 0 { LEAST_GROUP } else { 1 };
    Some(Content::Found(Found {
        file_system: FileSystem::Xfs,
        bytes,
        block_size,
        least_growth: least_blocks * block_size,
        has_error_flag: version == 5 && incompatible & INCOMPATIBLE_NEEDS_REPAIR != 0,
    }))
}

/// fs/btrfs, `struct btrfs_super_block` at 64 KiB; little-endian.
fn btrfs(head: &[u8]) -> Option<Content> {
    const FLAG_ERROR: u64 = 1 << 2;

    let at = 64 << 10;
    if head.get(at + 0x40..at + 0x48)? != b"_BHRfS_M" {
        return None;
    }
    if u64_at(head, at + 0x88)? != 1 {
        return Some(Content::Other("a btrfs that spans several devices".into()));
    }
    let block_size = u64::from(u32_at(head, at + 0x90)?);
    // Of the item of this device (at 0xc9) the total, after its number.
    let bytes = u64_at(head, at + 0xd1)?;
    if !(512..=65536).contains(&block_size) || bytes == 0 {
        return Some(damaged(FileSystem::Btrfs));
    }
    Some(Content::Found(Found {
        file_system: FileSystem::Btrfs,
        bytes,
        block_size,
        least_growth: block_size,
        has_error_flag: u64_at(head, at + 0x38)? & FLAG_ERROR != 0,
    }))
}

fn damaged(file_system: FileSystem) -> Content {
    Content::Other(format!("a damaged {file_system}"))
}

fn bytes_at<const SIZE: usize>(head: &[u8], offset: usize) -> Option<[u8; SIZE]> {
    head.get(offset..offset + SIZE)?.try_into().ok()
}

fn u16_at(head: &[u8], offset: usize) -> Option<u16> {
    bytes_at(head, offset).map(u16::from_le_bytes)
}

fn u32_at(head: &[u8], offset: usize) -> Option<u32> {
    bytes_at(head, offset).map(u32::from_le_bytes)
}

fn u64_at(head: &[u8], offset: usize) -> Option<u64> {
    bytes_at(head, offset).map(u64::from_le_bytes)
}

#[cfg(test)]
#[path = "superblock_tests.rs"]
mod tests;
