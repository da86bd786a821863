//! Which blocks a file system that nobody has mounted does not use, by its own tools. What a copy leaves out must be free for
//! certain, so everything that is not as it is known to be is refused, and so is what was never tried: then all blocks are
//! copied. The trial's cases "the used blocks of ext4 (xfs) made with other options are all it needs" have tried what is listed
//! here.
//!
//! What is asked about is as a snapshot holds it. At the snapshot the kernel froze the file system, which puts everything in its
//! place: ext4's journal is empty then, and xfs's log holds nothing but the superblock. Of one that was cut off there is more.

use std::ops::Range;
use std::path::Path;

use super::commands::{Command, Commands};
use super::file_system::FileSystem;
use super::kernel::{Kernel, Stretch};
use super::lines::each_line;

/// Gives the free ranges on the device to `free`, bytes, in any order. The text says why they are not known.
pub async fn free_space(
    (kernel, commands): (&dyn Kernel, &dyn Commands),
    file_system: FileSystem,
    device: &Path,
    free: impl FnMut(Range<u64>) + Send,
) -> Result<(), String> {
    match file_system {
        FileSystem::Ext4 => of_ext4(commands, device, free).await,
        FileSystem::Xfs => of_xfs(kernel, commands, device, free).await,
        FileSystem::Btrfs => Err(String::from("btrfs does not tell")),
    }
}

async fn of_ext4(
    commands: &dyn Commands,
    device: &Path,
    mut free: impl FnMut(Range<u64>) + Send,
) -> Result<(), String> {
    let (command, mut dump) = (Command::new("dumpe2fs").argument(device), Ext4Dump::default());
    let output = each_line(commands, &command, |line| dump.line(line, &mut free)).await;
    let output = output.map_err(|error| error.to_string())?;
    // Its first line is its version.
    let complaint = output.stderr.lines().find(|line| !line.starts_with("dumpe2fs "));
    complaint.map_or(Ok(()), |complaint| Err(format!("{command}: {complaint}")))
}

/// Those of its features (ext4(5)) with which its bitmaps are known to tell the truth. Not among them are `needs_recovery`, of one
/// that was cut off, and bigalloc, with which blocks come in clusters.
const EXT4_FEATURES: [&str; 17] = [
    "has_journal",
    "ext_attr",
    "resize_inode",
    "dir_index",
    "orphan_file",
    "orphan_present",
    "filetype",
    "extent",
    "64bit",
    "flex_bg",
    "metadata_csum_seed",
    "sparse_super",
    "large_file",
    "huge_file",
    "dir_nlink",
    "extra_isize",
    "metadata_csum",
];

/// What dumpe2fs(8) prints: the superblock's fields, and then each group of blocks.
#[derive(Debug, Default)]
struct Ext4Dump {
    block_bytes: Option<u64>,
    settled: Settled,
    in_groups: bool,
}

/// What tells that nothing is still to be put in its place. Without a journal nothing would tell of a file system that was cut
/// off while it was in use.
#[derive(Debug, Default)]
struct Settled {
    has_journal: bool,
    is_clean: bool,
    is_journal_empty: bool,
}

impl Ext4Dump {
    fn line(&mut self, line: &str, free: &mut impl FnMut(Range<u64>)) -> Result<(), String> {
        // So it tells of a checksum that is wrong, and ends well.
        if line.contains("***") || line.contains("(EXPECTED") {
            return Err(line.trim().to_owned());
        }
        if !self.in_groups {
            self.in_groups = line.starts_with("Group 0:");
            return if self.in_groups { self.check() } else { self.field(line) };
        }
        let Some(ranges) = line.strip_prefix("  Free blocks: ") else { return Ok(()) };
        for range in ranges.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<u64>().map_err(|_| format!("free blocks {range}"));
            let block_bytes = self.block_bytes.unwrap_or_default();
            let (start, end) = (number(first)?.checked_mul(block_bytes), number(last)?.checked_add(1));
            let range = start.zip(end.and_then(|end| end.checked_mul(block_bytes)));
            let (start, end) = range.ok_or_else(|| format!("free blocks {ranges}"))?;
            free(start..end);
        }
        Ok(())
    }

    fn field(&mut self, line: &str) -> Result<(), String> {
        let Some((name, value)) = line.split_once(':') else { return Ok(()) };
        let value = value.trim();
        match name {
            "Filesystem features" => {
                if let Some(other) = value.split_whitespace().find(|word| !EXT4_FEATURES.contains(word)) {
                    return Err(format!("it has {other}"));
                }
                self.settled.has_journal = value.split_whitespace().any(|word| word == "has_journal");
            }
            "Filesystem state" => self.settled.is_clean = value == "clean",
            "Journal start" => self.settled.is_journal_empty = value == "0",
            "Block size" => self.block_bytes = value.parse().ok(),
            _ => {}
        }
        Ok(())
    }

    /// That the bitmaps can be trusted.
    fn check(&self) -> Result<(), String> {
        let is_known = self.block_bytes.is_some_and(|bytes| (1024..=65536).contains(&bytes));
        let Settled { has_journal, is_clean, is_journal_empty } = self.settled;
        if is_known && has_journal && is_clean && is_journal_empty {
            return Ok(());
        }
        Err(String::from("it is not clean, or has no empty journal"))
    }
}

async fn of_xfs(
    kernel: &dyn Kernel,
    commands: &dyn Commands,
    device: &Path,
    mut free: impl FnMut(Range<u64>) + Send,
) -> Result<(), String> {
    let stretch = Stretch { device: device.to_owned(), offset: 0, length: 4096 };
    let superblock = kernel.read(vec![stretch]).await.pop().and_then(Result::ok).unwrap_or_default();
    let geometry = XfsGeometry::parse(&superblock).ok_or("its superblock is not as it is known")?;
    let command = Command::new("xfs_logprint").argument("-t").argument(device);
    let mut log = XfsLog::default();
    each_line(commands, &command, |line| log.line(line)).await.map_err(|error| error.to_string())?;
    log.end()?;
    let command = Command::new("xfs_db").arguments(["-r", "-c", "freesp -d"]).argument(device);
    let mut state = XfsFree::Before;
    let output = each_line(commands, &command, |line| state.line(line, geometry, &mut free)).await;
    let complaint = output.map_err(|error| error.to_string())?.stderr;
    if state == XfsFree::After && complaint.trim().is_empty() {
        return Ok(());
    }
    Err(format!("{command}: {}", complaint.trim()))
}

/// Where the blocks of xfs lie (its "XFS Algorithms & Data Structures", superblocks).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct XfsGeometry {
    block_bytes: u64,
    group_blocks: u64,
    groups: u64,
}

/// Bits of the words with its features (`xfs_format.h` names them) with which its trees of free blocks are known to tell the
/// truth, and where in the superblock each word stands: version 5 with attributes, quota left out, alignment, log version 2,
/// larger sectors; counters written lazily, 32-bit project ids, checksums; trees of free inodes, of owners, of shared blocks and
/// their counts; file types, sparse inodes, a UUID of its own, large times and counts, exchanged ranges, parents. Not among them
/// is one that needs a repair.
const XFS_FEATURES: [(usize, u32); 5] = [(200, 0x18a), (208, 0), (212, 0xf), (216, 0xef), (220, 0)];
const XFS_VERSION: u16 = 0xbdb5;

impl XfsGeometry {
    fn parse(superblock: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u64::from(u32::from_be_bytes(superblock.get(at..at + 4)?.try_into().ok()?)));
        let u64_at = |at: usize| Some(u64::from_be_bytes(superblock.get(at..at + 8)?.try_into().ok()?));
        let version = u16::from_be_bytes(superblock.get(100..102)?.try_into().ok()?);
        let (realtime_blocks, log_start) = (u64_at(16)?, u64_at(48)?);
        let is_known = |(at, bits): (usize, u32)| u32_at(at).is_some_and(|word| word & !u64::from(bits) == 0);
        let is_known = superblock.starts_with(b"XFSB")
            && version & 0xf == 5
            && version & !XFS_VERSION == 0
            && XFS_FEATURES.into_iter().all(is_known);
        (is_known && realtime_blocks == 0 && log_start != 0).then_some(())?;
        Some(Self { block_bytes: u32_at(4)?, group_blocks: u32_at(84)?, groups: u32_at(88)? })
    }
}

/// How lines begin that say nothing of what is in a log.
const XFS_LOG_HEADS: [&str; 6] = ["data device:", "log device:", "LOG REC AT LSN", "====", "TRANS: tid:", "BUF: cnt:"];

/// What `xfs_logprint` prints of the part of the log that is not in its place yet.
#[derive(Debug, Default)]
struct XfsLog {
    is_told: bool,
    buffers: u64,
    superblocks: u64,
}

impl XfsLog {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let text = line.trim();
        let is_passed_over = |begin: &&str| text.starts_with(*begin);
        if text.contains("log tail:") {
            self.is_told = text.ends_with("state: <CLEAN>") || text.ends_with("state: <DIRTY>");
        } else if text.starts_with("BUF:  #regs:") {
            self.buffers += 1;
        } else if text == "SUPER Block Buffer:" {
            self.superblocks += 1;
        } else if !matches!(text, "" | "xfs_logprint:") && !XFS_LOG_HEADS.iter().any(is_passed_over) {
            return Err(format!("its log was not written back: {text}"));
        }
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        if self.is_told && self.buffers == self.superblocks {
            return Ok(());
        }
        Err(String::from("its log was not written back"))
    }
}

/// What the command freesp of `xfs_db` prints: the free ranges under a head, and a summary under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum XfsFree {
    Before,
    Within,
    After,
}

impl XfsFree {
    fn line(&mut self, line: &str, geometry: XfsGeometry, free: &mut impl FnMut(Range<u64>)) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (*self, words.as_slice()) {
            (Self::Before, ["agno", "agbno", "len"]) => *self = Self::Within,
            (Self::Within, ["from", "to", ..]) => *self = Self::After,
            (Self::Within, [group, block, length]) => {
                let numbers = [group, block, length].map(|word| word.parse::<u64>().ok());
                let [Some(group), Some(block), Some(length)] = numbers else { return Err(line.to_owned()) };
                let end = block.checked_add(length).filter(|end| *end <= geometry.group_blocks);
                let end = end.filter(|_| group < geometry.groups).ok_or_else(|| line.to_owned())?;
                let first = group * geometry.group_blocks;
                free((first + block) * geometry.block_bytes..(first + end) * geometry.block_bytes);
            }
            (Self::After, _) => {}
            _ => return Err(line.to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
