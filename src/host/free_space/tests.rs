//! With what e2fsprogs 1.47.4 and xfsprogs 7 print.

use super::*;

const EXT4: &str = "Filesystem volume name:   <none>
Filesystem features:      has_journal ext_attr resize_inode dir_index orphan_file filetype extent 64bit flex_bg
Filesystem state:         clean
Block count:              327680
Free blocks:              275727
Block size:               1024
Journal sequence:         0x00000003
Journal start:            0


Group 0: (Blocks 1-8192) csum 0x2b86 [ITABLE_ZEROED]
  Primary superblock at 1, Group descriptors at 2-4
  0 free blocks, 2035 free inodes, 2 directories, 2034 unused inodes
  Free blocks: 
  Free inodes: 14-2048
Group 1: (Blocks 8193-16384) csum 0x1dcd [INODE_UNINIT, ITABLE_ZEROED]
  Free blocks: 9505-16383, 16384
  Free inodes: 2049-4096
";

fn of_ext4(text: &str) -> Result<Vec<Range<u64>>, String> {
    let (mut dump, mut found) = (Ext4Dump::default(), Vec::new());
    for line in text.lines() {
        dump.line(line, &mut |range| found.push(range))?;
    }
    Ok(found)
}

#[test]
fn the_free_blocks_of_ext4_are_told_in_bytes() {
    assert_eq!(of_ext4(EXT4).unwrap(), [9505 * 1024..16384 * 1024, 16384 * 1024..16385 * 1024]);
}

#[test]
fn ext4_whose_bitmaps_may_be_old_tells_nothing() {
    for (from, to) in [
        ("filetype", "filetype needs_recovery"),
        ("filetype", "filetype fast_commit"),
        ("filetype", "filetype FEATURE_C20"),
        ("0x2b86", "0x2b86 (EXPECTED 0x1234)"),
        ("0x1dcd", "0x1dcd (EXPECTED 0x1234)"),
        ("Group 0", "*** Run e2fsck now!\n\nGroup 0"),
        ("has_journal ", ""),
        ("clean", "not clean"),
        ("clean", "clean with errors"),
        ("Journal start:            0", "Journal start:            1"),
        ("Journal start:            0", ""),
        ("flex_bg", "flex_bg bigalloc"),
        ("Block size:               1024", ""),
        ("9505-", "x-"),
        ("9505-", "18446744073709551615-"),
    ] {
        assert!(of_ext4(&EXT4.replace(from, to)).is_err(), "{from} {to}");
    }
}

const FROZEN: &str = "xfs_logprint:
    data device: 0xfe04
    log device: 0xfe04 daddr: 327736 length: 131072

    log tail: 234 head: 238 state: <DIRTY>


LOG REC AT LSN cycle 1 block 234 (0x1, 0xea)
============================================================================
TRANS: tid:0x7df886f  #items:2  trans:0x7df886f  q:0x55000002d040
BUF: cnt:2 total:2 a:0x550000019d70 len:24 a:0x550000035210 len:384 
\tBUF:  #regs:2   start blkno:0x0   len:1   bmap size:1   flags:0x9000
\tSUPER Block Buffer:
";

fn of_log(text: &str) -> Result<(), String> {
    let mut log = XfsLog::default();
    text.lines().try_for_each(|line| log.line(line))?;
    log.end()
}

#[test]
fn the_log_of_xfs_may_hold_the_superblock_and_nothing_else() {
    assert_eq!(of_log(FROZEN), Ok(()));
    let clean = FROZEN.lines().take(4).collect::<Vec<_>>().join("\n") + "\n    log tail: 2 head: 2 state: <CLEAN>\n";
    assert_eq!(of_log(&clean), Ok(()));
    for more in [
        "\tBUF:  #regs:2   start blkno:0x1   len:1   bmap size:1   flags:0x9000",
        "\tAGF Buffer: (XAGF)",
        "INO: cnt:2 total:2 a:0x1 len:56",
        "EFI: cnt:1",
        "xfs_logprint: unknown log operation type",
    ] {
        assert!(of_log(&format!("{FROZEN}{more}\n")).is_err(), "{more}");
    }
    assert!(of_log("").is_err());
    assert!(of_log("    log tail: 2 head: 9 state: <BROKEN>\n").is_err());
}

const GEOMETRY: XfsGeometry = XfsGeometry { block_bytes: 4096, group_blocks: 20_480, groups: 4 };

fn of_freesp(text: &str) -> Result<Vec<Range<u64>>, String> {
    let (mut state, mut found) = (XfsFree::Before, Vec::new());
    for line in text.lines() {
        state.line(line, GEOMETRY, &mut |range| found.push(range))?;
    }
    if state == XfsFree::After { Ok(found) } else { Err(String::from("it breaks off")) }
}

#[test]
fn the_free_blocks_of_xfs_are_told_in_bytes() {
    let text = "    agno    agbno      len
       0        9        1
       1       13    20467
   from      to extents blocks    pct blkcdf extcdf
      1       1      26     26   0.04 100.00 100.00
";
    assert_eq!(of_freesp(text).unwrap(), [9 * 4096..10 * 4096, 20_493 * 4096..40_960 * 4096]);
    for (from, to) in
        [("20467", "20468"), ("   1       13", "   4       13"), ("agbno", "x"), ("13", "-13"), ("from", "")]
    {
        assert!(of_freesp(&text.replace(from, to)).is_err(), "{from} {to}");
    }
}

#[test]
fn the_superblock_of_xfs_says_where_blocks_lie() {
    let mut superblock = vec![0_u8; 4096];
    superblock[..4].copy_from_slice(b"XFSB");
    superblock[4..8].copy_from_slice(&4096_u32.to_be_bytes());
    superblock[48..56].copy_from_slice(&32_774_u64.to_be_bytes());
    superblock[84..88].copy_from_slice(&20_480_u32.to_be_bytes());
    superblock[88..92].copy_from_slice(&4_u32.to_be_bytes());
    superblock[100..102].copy_from_slice(&0xb4a5_u16.to_be_bytes());
    assert_eq!(XfsGeometry::parse(&superblock), Some(GEOMETRY));
    for (at, byte) in [(219, 0xef), (215, 0xf), (202, 1), (203, 0x8a), (101, 0xb5)] {
        superblock[at] = byte;
    }
    assert_eq!(XfsGeometry::parse(&superblock), Some(GEOMETRY), "with all that was tried");
    // Another file system, an older version, realtime blocks, a log elsewhere, one that needs a repair, features that are not
    // known, of each kind.
    for (at, byte) in [
        (0, b'Y'),
        (101, 0xa4),
        (23, 1),
        (219, 0x10),
        (218, 1),
        (215, 0x10),
        (211, 1),
        (223, 1),
        (203, 0x10),
        (101, 0xf5),
    ] {
        let mut other = superblock.clone();
        other[at] = byte;
        assert_eq!(XfsGeometry::parse(&other), None, "{at}");
    }
    superblock[48..56].fill(0);
    assert_eq!(XfsGeometry::parse(&superblock), None);
    assert_eq!(XfsGeometry::parse(&[]), None);
}
