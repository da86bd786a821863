use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

/// As `mkfs.ext4` makes it: blocks of 4 KiB, 32,768 of them and 8,192 inodes to a group.
fn ext4_head(blocks: u64) -> Vec<u8> {
    let mut head = vec![0; HEAD_BYTES];
    let mut put = |offset: usize, bytes: &[u8]| head[1024 + offset..1024 + offset + bytes.len()].copy_from_slice(bytes);
    let blocks = blocks.to_le_bytes();
    put(0x4, &blocks[..4]);
    put(0x150, &blocks[4..]);
    put(0x18, &2_u32.to_le_bytes());
    put(0x20, &32_768_u32.to_le_bytes());
    put(0x28, &8192_u32.to_le_bytes());
    put(0x38, &0xef53_u16.to_le_bytes());
    put(0x3a, &1_u16.to_le_bytes());
    put(0x4c, &1_u32.to_le_bytes());
    put(0x58, &256_u16.to_le_bytes());
    put(0x60, &0x80_u32.to_le_bytes());
    put(0x64, &1_u32.to_le_bytes());
    put(0xce, &100_u16.to_le_bytes());
    put(0xfe, &64_u16.to_le_bytes());
    head
}

fn xfs_head(blocks: u64, group_blocks: u32) -> Vec<u8> {
    let mut head = vec![0; HEAD_BYTES];
    head[..4].copy_from_slice(b"XFSB");
    head[4..8].copy_from_slice(&4096_u32.to_be_bytes());
    head[8..16].copy_from_slice(&blocks.to_be_bytes());
    head[84..88].copy_from_slice(&group_blocks.to_be_bytes());
    head
}

fn btrfs_head(bytes: u64) -> Vec<u8> {
    let mut head = vec![0; HEAD_BYTES];
    let start = 64 << 10;
    head[start + 0x40..start + 0x48].copy_from_slice(b"_BHRfS_M");
    head[start + 0x70..start + 0x78].copy_from_slice(&bytes.to_le_bytes());
    head[start + 0x90..start + 0x94].copy_from_slice(&4096_u32.to_le_bytes());
    head
}

#[test]
fn each_file_system_is_recognised_with_its_size() {
    for (head, file_system, bytes) in [
        (ext4_head(262_144), FileSystem::Ext4, 1 << 30),
        (ext4_head(1 << 33), FileSystem::Ext4, 1 << 45),
        (xfs_head(262_144, 65_536), FileSystem::Xfs, 1 << 30),
        (btrfs_head(1 << 30), FileSystem::Btrfs, 1 << 30),
    ] {
        let superblock = recognise(&head).unwrap();
        assert_eq!((superblock.file_system, superblock.bytes), (file_system, bytes));
        assert_eq!((superblock.block_bytes, superblock.has_errors), (4096, false));
    }
}

#[test]
fn a_noted_error_is_reported() {
    let mut head = ext4_head(262_144);
    head[1024 + 0x3a] = 3;
    assert!(recognise(&head).unwrap().has_errors);
}

#[test]
fn what_stands_in_the_log_of_btrfs_alone_is_reported() {
    let mut head = btrfs_head(1 << 30);
    assert!(!recognise(&head).unwrap().has_log);
    head[(64 << 10) + 0x61] = 1;
    assert!(recognise(&head).unwrap().has_log);
}

#[test]
fn an_external_journal_is_no_file_system() {
    let mut head = ext4_head(262_144);
    head[1024 + 0x60] = 0x88;
    assert_eq!(recognise(&head), None);
}

#[test]
fn zeroes_and_short_heads_are_no_file_system() {
    for length in [0, 4, 1024, 2047, 65_536, HEAD_BYTES] {
        assert_eq!(recognise(&vec![0; length]), None);
    }
    assert_eq!(recognise(b"XFSB"), None);
}

#[test]
fn the_file_system_that_starts_first_wins() {
    let mut head = ext4_head(262_144);
    head[64 << 10..].copy_from_slice(&btrfs_head(1 << 30)[64 << 10..]);
    assert_eq!(recognise(&head).unwrap().file_system, FileSystem::Ext4);
}

#[test]
fn a_last_group_of_ext4_too_small_for_its_tables_is_no_growth() {
    let blocks = 4 * 32_768;
    let superblock = recognise(&ext4_head(blocks)).unwrap();
    // Group 4 has no copy of the superblock: two bitmaps, 512 blocks of inodes, 50 free.
    assert!(!superblock.needs_growing((blocks + 563) * 4096));
    assert!(superblock.needs_growing((blocks + 564) * 4096));
    // Group 5 has one, with a block of descriptors and 100 kept free.
    let superblock = recognise(&ext4_head(5 * 32_768)).unwrap();
    assert!(!superblock.needs_growing((5 * 32_768 + 665) * 4096));
    assert!(superblock.needs_growing((5 * 32_768 + 666) * 4096));
    // Within a group that is there already each block counts, but no part of one.
    let superblock = recognise(&ext4_head(blocks - 10)).unwrap();
    assert!(!superblock.needs_growing((blocks - 10) * 4096 + 4095));
    assert!(superblock.needs_growing((blocks - 9) * 4096));
}

#[test]
fn a_last_allocation_group_of_xfs_too_small_is_no_growth() {
    let superblock = recognise(&xfs_head(262_144, 65_536)).unwrap();
    assert!(!superblock.needs_growing(262_144 * 4096));
    assert!(!superblock.needs_growing((262_144 + 63) * 4096));
    assert!(superblock.needs_growing((262_144 + 64) * 4096));
}

#[test]
fn btrfs_grows_by_blocks_but_not_below_what_the_kernel_resizes_to() {
    let superblock = recognise(&btrfs_head(1 << 30)).unwrap();
    assert!(!superblock.needs_growing((1 << 30) + 4095));
    assert!(superblock.needs_growing((1 << 30) + 4096));
    let superblock = recognise(&btrfs_head(200 * MIB)).unwrap();
    assert!(!superblock.needs_growing(255 * MIB));
    assert!(superblock.needs_growing(256 * MIB));
}

#[test]
fn a_device_smaller_than_the_file_system_is_no_growth() {
    for head in [ext4_head(262_144), xfs_head(262_144, 65_536), btrfs_head(1 << 30)] {
        assert!(!recognise(&head).unwrap().needs_growing(4096));
        assert!(!recognise(&head).unwrap().needs_growing(0));
    }
}

proptest! {
    #[test]
    fn arbitrary_superblocks_never_panic(
        noise in proptest::collection::vec(any::<u8>(), 1024),
        kind in 0..3_usize,
        device_bytes in any::<u64>(),
    ) {
        let (mut head, start, magic) = match kind {
            0 => (ext4_head(1), 1024, 0x38..0x3a),
            1 => (xfs_head(1, 1), 0, 0..4),
            _ => (btrfs_head(1), 64 << 10, 0x40..0x48),
        };
        for (offset, byte) in noise.into_iter().enumerate().filter(|(offset, _)| !magic.contains(offset)) {
            head[start + offset] = byte;
        }
        // Most noise has no valid size of blocks; half of the runs get one.
        if device_bytes % 2 == 0 {
            match kind {
                0 => head[1024 + 0x18..1024 + 0x1c].copy_from_slice(&2_u32.to_le_bytes()),
                1 => head[4..8].copy_from_slice(&4096_u32.to_be_bytes()),
                _ => head[(64 << 10) + 0x90..(64 << 10) + 0x94].copy_from_slice(&4096_u32.to_le_bytes()),
            }
        }
        if let Some(superblock) = recognise(&head) {
            superblock.needs_growing(device_bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        recognise(&bytes);
    }
}

#[test]
fn the_log_of_xfs_is_found_where_its_superblock_says() {
    let mut head = xfs_head(81_920, 20_480);
    // As mkfs.xfs makes it on 320 MiB: the eighth block of the third group, groups counted by 2^15 blocks.
    head[48..56].copy_from_slice(&65_543_u64.to_be_bytes());
    head[96..100].copy_from_slice(&16_384_u32.to_be_bytes());
    head[124] = 15;
    let log = Log { offset: (2 * 20_480 + 7) * 4096, bytes: 64 << 20 };
    assert_eq!(recognise(&head).unwrap().log, Some(log));
    head[48..56].fill(0);
    assert_eq!(recognise(&head).unwrap().log, None, "it is on another device");
    head[48..56].fill(0xff);
    head[124] = 255;
    assert_eq!(recognise(&head).unwrap().log, None, "nonsense");
}

#[test]
fn the_cycle_after_those_of_a_log_is_told_from_its_first_sector() {
    let sector = |words: [u32; 2]| words.map(u32::to_be_bytes).concat();
    assert_eq!(Log::cycle_after(&sector([0xfeed_babe, 7])), Some(9), "the head of a record");
    assert_eq!(Log::cycle_after(&sector([7, 12])), Some(9), "what a record holds");
    assert_eq!(Log::cycle_after(&sector([u32::MAX, 0])), None);
    assert_eq!(Log::cycle_after(&[0; 3]), None);
}
