//! Recognising a file system from the first bytes of its device, without starting a program.

use crate::host::file_system::FileSystem;

/// How many bytes from the start of a device [`recognise`] looks at.
pub const HEAD_BYTES: usize = 128 << 10;

/// What the superblock of a file system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Which one it is; ext2 and ext3 count as ext4.
    pub file_system: FileSystem,
    /// The size of the file system in bytes.
    pub bytes: u64,
    /// The unit of that size in bytes.
    pub block_bytes: u64,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Whether the kernel has noted an error in it (ext4 only), so that it wants checking.
    pub has_errors: bool,
    /// Whether some of what was synced stands in its log alone (btrfs only): until it is mounted again nothing else may change it.
    pub has_log: bool,
    /// Where its log lies (XFS only).
    pub log: Option<Log>,
    tail: Tail,
}

/// The place of a log on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Where it begins, bytes.
    pub offset: u64,
    /// How long it is, bytes.
    pub bytes: u64,
}

impl Log {
    /// How much of its beginning [`Log::cycle_after`] looks at, bytes.
    pub const HEAD_BYTES: u64 = 512;

    /// A cycle that an xfs log whose head this is has not come to, and nothing in its file system either. A sector of a log begins
    /// with the cycle in which it was written, the head of a record with its magic number before that; the first sector is at most
    /// one behind (`xfs_log_format.h`).
    pub fn cycle_after(head: &[u8]) -> Option<u32> {
        let word = |at| Some(u32::from_be_bytes(bytes_at(head, at)?));
        let cycle = if word(0)? == XFS_RECORD_MAGIC { word(4)? } else { word(0)? };
        cycle.checked_add(2)
    }
}

/// What decides how much of the end of a device a file system leaves unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// ext4: a last group too small for its own tables is left out.
    Groups(Groups),
    /// XFS: a last allocation group too small is left out. Blocks in a full one.
    AllocationGroups(u64),
    /// btrfs: nothing but a part of a block.
    Nothing,
}

/// The block groups of ext4; everything in blocks but for the first two of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Groups {
    first_block: u64,
    blocks_per_group: u64,
    inode_table_blocks: u64,
    /// Descriptors of groups in one block.
    descriptors_per_block: u64,
    /// Blocks of descriptors and those kept free for more.
    descriptor_blocks: u64,
    /// Whether only some groups hold a copy of the superblock.
    is_sparse: bool,
}

/// The unit to which resize2fs rounds a size down when blocks are smaller: the smallest page.
const PAGE_BYTES: u64 = 4096;
/// What e2fsprogs wants to be free in a last group. The kernel is content with a little less; with this
/// greater number neither a fresh nor a grown file system seems to need growing.
const EXT4_LAST_GROUP_FREE_BLOCKS: u64 = 50;
/// `XLOG_HEADER_MAGIC_NUM` of the kernel.
const XFS_RECORD_MAGIC: u32 = 0xfeed_babe;
/// `XFS_MIN_AG_BLOCKS` of the kernel.
const XFS_LEAST_GROUP_BLOCKS: u64 = 64;
/// The kernel resizes btrfs to no less.
const BTRFS_LEAST_RESIZE_BYTES: u64 = 256 << 20;

/// Finds the file system whose superblock is in the first [`HEAD_BYTES`] of a device; a shorter `head` is
/// as good as far as it goes.
///
/// Where several match, the one that starts first wins: the others' places are inside it, and may be stale
/// or, within a file, its user's.
pub fn recognise(head: &[u8]) -> Option<Superblock> {
    xfs(head).or_else(|| ext4(head)).or_else(|| btrfs(head))
}

impl Superblock {
    /// Whether growing the file system on a device of this many bytes would make it larger. What the file
    /// system cannot use anyway does not count: part of a block, or a last group too small.
    pub fn needs_growing(&self, device_bytes: u64) -> bool {
        self.usable_bytes(device_bytes) > self.bytes
    }

    /// The size that the file system would have if it were grown to the device.
    fn usable_bytes(&self, device_bytes: u64) -> u64 {
        let blocks = device_bytes / self.block_bytes;
        let usable = match self.tail {
            Tail::Groups(groups) => {
                let page_blocks = (PAGE_BYTES / self.block_bytes).max(1);
                groups.usable_blocks(blocks - blocks % page_blocks)
            }
            Tail::AllocationGroups(group_blocks) => {
                let rest = blocks.checked_rem(group_blocks).unwrap_or(0);
                if rest < XFS_LEAST_GROUP_BLOCKS { blocks - rest } else { blocks }
            }
            Tail::Nothing if device_bytes < BTRFS_LEAST_RESIZE_BYTES => 0,
            Tail::Nothing => blocks,
        };
        usable.saturating_mul(self.block_bytes)
    }
}

impl Groups {
    /// How many of this many blocks ext4 uses.
    fn usable_blocks(&self, blocks: u64) -> u64 {
        let data = blocks.saturating_sub(self.first_block);
        let (group, rest) = (data / self.blocks_per_group, data % self.blocks_per_group);
        // The first group is never left out; and two bitmaps and the inode table are in every one.
        let mut least = 2 + self.inode_table_blocks + EXT4_LAST_GROUP_FREE_BLOCKS;
        if self.has_copy(group) {
            least += 1 + self.descriptor_blocks.max((group + 1).div_ceil(self.descriptors_per_block));
        }
        if group > 0 && rest < least { blocks - rest } else { blocks }
    }

    /// Whether a group holds a copy of the superblock and the descriptors.
    fn has_copy(&self, group: u64) -> bool {
        let is_power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        !self.is_sparse || group <= 1 || [3, 5, 7].into_iter().any(is_power_of)
    }
}

/// ext2, ext3 and ext4: `struct ext4_super_block` at 1024, little-endian.
fn ext4(head: &[u8]) -> Option<Superblock> {
    const MAGIC: u16 = 0xef53;
    const STATE_HAS_ERRORS: u16 = 2;
    const INCOMPATIBLE_JOURNAL_DEVICE: u32 = 0x8;
    const INCOMPATIBLE_64BIT: u32 = 0x80;
    const READ_ONLY_SPARSE: u32 = 0x1;

    let superblock = head.get(1024..2048)?;
    let word = |offset| little_u16(superblock, offset);
    let long = |offset| little_u32(superblock, offset);
    let incompatible = long(0x60)?;
    if word(0x38)? != MAGIC || incompatible & INCOMPATIBLE_JOURNAL_DEVICE != 0 {
        return None;
    }
    // 64 KiB is the largest block.
    let block_bytes = 1024_u64 << Some(long(0x18)?).filter(|shift| *shift <= 6)?;
    let is_64bit = incompatible & INCOMPATIBLE_64BIT != 0;
    let high = if is_64bit { u64::from(long(0x150)?) << 32 } else { 0 };
    // Revision 0 had no fields for the size of inodes.
    let inode_bytes = if long(0x4c)? == 0 { 128 } else { u64::from(word(0x58)?) };
    let descriptor_bytes = if is_64bit { u64::from(word(0xfe)?) } else { 32 };
    let blocks = high | u64::from(long(0x4)?);
    let first_block = u64::from(long(0x14)?);
    let blocks_per_group = Some(u64::from(long(0x20)?)).filter(|blocks| *blocks > 0)?;
    let descriptors_per_block = block_bytes.checked_div(descriptor_bytes).filter(|count| *count > 0)?;
    let group_count = blocks.saturating_sub(first_block).div_ceil(blocks_per_group);
    let tail = Tail::Groups(Groups {
        first_block,
        blocks_per_group,
        inode_table_blocks: (u64::from(long(0x28)?) * inode_bytes).div_ceil(block_bytes),
        descriptors_per_block,
        descriptor_blocks: group_count.div_ceil(descriptors_per_block) + u64::from(word(0xce)?),
        is_sparse: long(0x64)? & READ_ONLY_SPARSE != 0,
    });
    Some(Superblock {
        file_system: FileSystem::Ext4,
        uuid: bytes_at(superblock, 0x68)?,
        bytes: blocks.checked_mul(block_bytes)?,
        block_bytes,
        has_errors: word(0x3a)? & STATE_HAS_ERRORS != 0,
        has_log: false,
        log: None,
        tail,
    })
}

/// XFS: `struct xfs_dsb` at 0, big-endian.
fn xfs(head: &[u8]) -> Option<Superblock> {
    if !head.starts_with(b"XFSB") {
        return None;
    }
    let block_bytes = u64::from(u32::from_be_bytes(bytes_at(head, 4)?));
    let blocks = u64::from_be_bytes(bytes_at(head, 8)?);
    let group_blocks = u64::from(u32::from_be_bytes(bytes_at(head, 84)?));
    if !block_bytes.is_power_of_two() {
        return None;
    }
    Some(Superblock {
        file_system: FileSystem::Xfs,
        uuid: bytes_at(head, 32)?,
        bytes: blocks.checked_mul(block_bytes)?,
        block_bytes,
        has_errors: false,
        has_log: false,
        log: xfs_log(head, block_bytes, group_blocks),
        tail: Tail::AllocationGroups(group_blocks),
    })
}

/// Where the log of XFS lies; nothing when it is on another device. Its first block is given by allocation group and block in that.
fn xfs_log(head: &[u8], block_bytes: u64, group_blocks: u64) -> Option<Log> {
    let start = u64::from_be_bytes(bytes_at(head, 48)?);
    let blocks = u64::from(u32::from_be_bytes(bytes_at(head, 96)?));
    let shift = u32::from(*head.get(124)?);
    let group = start.checked_shr(shift)?;
    let block = start & 1_u64.checked_shl(shift)?.checked_sub(1)?;
    let offset = group.checked_mul(group_blocks)?.checked_add(block)?.checked_mul(block_bytes)?;
    let log = Log { offset, bytes: blocks.checked_mul(block_bytes)? };
    (start > 0 && blocks > 0).then_some(log)
}

/// btrfs: `struct btrfs_super_block` at 64 KiB, little-endian.
fn btrfs(head: &[u8]) -> Option<Superblock> {
    let superblock = head.get(64 << 10..)?;
    if bytes_at(superblock, 0x40)? != *b"_BHRfS_M" {
        return None;
    }
    let block_bytes = Some(u64::from(little_u32(superblock, 0x90)?)).filter(|bytes| bytes.is_power_of_two())?;
    Some(Superblock {
        file_system: FileSystem::Btrfs,
        uuid: bytes_at(superblock, 0x20)?,
        bytes: u64::from_le_bytes(bytes_at(superblock, 0x70)?),
        block_bytes,
        has_errors: false,
        has_log: u64::from_le_bytes(bytes_at(superblock, 0x60)?) != 0,
        log: None,
        tail: Tail::Nothing,
    })
}

fn bytes_at<const LENGTH: usize>(bytes: &[u8], offset: usize) -> Option<[u8; LENGTH]> {
    bytes.get(offset..)?.first_chunk().copied()
}

fn little_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes_at(bytes, offset).map(u16::from_le_bytes)
}

fn little_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes_at(bytes, offset).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests;
