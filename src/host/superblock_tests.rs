use proptest::prelude::*;

use super::*;

fn blank() -> Vec<u8> {
    vec![0; usize::try_from(RECOGNISED_BY).unwrap()]
}

fn put(head: &mut [u8], offset: usize, bytes: &[u8]) {
    head[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// An ext4 of 10,000 blocks of 4 KiB, groups of 32,768, as far as it is looked at.
fn an_ext4() -> Vec<u8> {
    let mut head = blank();
    put(&mut head, 1024 + 0x4, &10_000_u32.to_le_bytes());
    put(&mut head, 1024 + 0x18, &2_u32.to_le_bytes());
    put(&mut head, 1024 + 0x20, &32_768_u32.to_le_bytes());
    put(&mut head, 1024 + 0x28, &8_192_u32.to_le_bytes());
    put(&mut head, 1024 + 0x38, &0xef53_u16.to_le_bytes());
    put(&mut head, 1024 + 0x3a, &1_u16.to_le_bytes());
    put(&mut head, 1024 + 0x58, &256_u16.to_le_bytes());
    put(&mut head, 1024 + 0x5c, &0x4_u32.to_le_bytes());
    put(&mut head, 1024 + 0x60, &0x2c2_u32.to_le_bytes());
    head
}

fn an_xfs() -> Vec<u8> {
    let mut head = blank();
    put(&mut head, 0, b"XFSB");
    put(&mut head, 4, &4096_u32.to_be_bytes());
    put(&mut head, 8, &100_000_u64.to_be_bytes());
    put(&mut head, 84, &25_000_u32.to_be_bytes());
    put(&mut head, 100, &0xb4a5_u16.to_be_bytes());
    head
}

fn a_btrfs() -> Vec<u8> {
    let mut head = blank();
    put(&mut head, 65536 + 0x40, b"_BHRfS_M");
    put(&mut head, 65536 + 0x88, &1_u64.to_le_bytes());
    put(&mut head, 65536 + 0x90, &4096_u32.to_le_bytes());
    put(&mut head, 65536 + 0xd1, &(1_u64 << 30).to_le_bytes());
    head
}

fn found(head: &[u8]) -> Found {
    match recognise(head) {
        Some(Content::Found(found)) => found,
        other => panic!("{other:?}"),
    }
}

fn other(head: &[u8]) -> String {
    match recognise(head) {
        Some(Content::Other(description)) => description,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_file_system_is_recognised_with_its_size() {
    let seen = |head: &[u8]| {
        let found = found(head);
        (found.file_system, found.bytes, found.block_size, found.has_error_flag)
    };
    assert_eq!(seen(&an_ext4()), (FileSystem::Ext4, 10_000 * 4096, 4096, false));
    assert_eq!(seen(&an_xfs()), (FileSystem::Xfs, 100_000 * 4096, 4096, false));
    assert_eq!(seen(&a_btrfs()), (FileSystem::Btrfs, 1 << 30, 4096, false));
    assert_eq!(recognise(&blank()), None);
    assert_eq!(recognise(&[]), None);
}

#[test]
fn an_ext4_of_many_blocks_has_a_second_half_of_its_number() {
    let mut head = an_ext4();
    put(&mut head, 1024 + 0x150, &1_u32.to_le_bytes());
    assert_eq!(found(&head).bytes, ((1 << 32) + 10_000) * 4096);
}

#[test]
fn noted_damage_is_seen() {
    let mut head = an_ext4();
    put(&mut head, 1024 + 0x3a, &3_u16.to_le_bytes());
    assert!(found(&head).has_error_flag);
    let mut head = an_xfs();
    put(&mut head, 216, &0x1b_u32.to_be_bytes());
    assert!(found(&head).has_error_flag);
    let mut head = a_btrfs();
    put(&mut head, 65536 + 0x38, &5_u64.to_le_bytes());
    assert!(found(&head).has_error_flag);
}

#[test]
fn a_rest_that_is_too_small_for_another_group_is_no_reason_to_grow() {
    let mut head = an_ext4();
    assert!(found(&head).can_grow_on(10_001 * 4096));
    assert!(!found(&head).can_grow_on(10_001 * 4096 - 1));
    assert!(!found(&head).can_grow_on(4096));
    put(&mut head, 1024 + 0x4, &32_768_u32.to_le_bytes());
    assert!(!found(&head).can_grow_on((32_768 + 513) * 4096));
    assert!(found(&head).can_grow_on((32_768 + 514) * 4096));

    assert!(!found(&an_xfs()).can_grow_on((100_000 + 63) * 4096));
    assert!(found(&an_xfs()).can_grow_on((100_000 + 64) * 4096));
    assert!(!found(&a_btrfs()).can_grow_on((1 << 30) + 4095));
    assert!(found(&a_btrfs()).can_grow_on((1 << 30) + 4096));
}

#[test]
fn what_only_resembles_a_volume_of_ours_is_something_else() {
    let mut head = an_ext4();
    put(&mut head, 1024 + 0x60, &0x2_u32.to_le_bytes());
    assert_eq!(other(&head), "an ext3 file system");
    put(&mut head, 1024 + 0x5c, &0_u32.to_le_bytes());
    assert_eq!(other(&head), "an ext2 file system");
    put(&mut head, 1024 + 0x60, &0x8_u32.to_le_bytes());
    assert_eq!(other(&head), "an external journal of ext4");
    let mut head = a_btrfs();
    put(&mut head, 65536 + 0x88, &2_u64.to_le_bytes());
    assert_eq!(other(&head), "a btrfs that spans several devices");
    let mut head = an_xfs();
    head[126] = 1;
    assert_eq!(other(&head), "an xfs whose mkfs was interrupted");
    let mut head = an_ext4();
    put(&mut head, 0, &an_xfs()[..512]);
    assert_eq!(other(&head), "the signatures of several file systems");
}

#[test]
fn a_superblock_that_makes_no_sense_is_not_taken_for_a_file_system() {
    for (mut head, offset) in [(an_ext4(), 1024 + 0x18), (an_xfs(), 4), (a_btrfs(), 65536 + 0x90)] {
        put(&mut head, offset, &u32::MAX.to_le_bytes());
        assert!(other(&head).starts_with("a damaged "));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_recognition_panic(
        noise in proptest::collection::vec(any::<u8>(), 512),
        kind in 0_usize..3,
        length in 0_usize..200_000,
    ) {
        let (mut head, superblock, magic) = match kind {
            0 => (an_ext4(), 1024, 0x38..0x3a),
            1 => (an_xfs(), 0, 0..4),
            _ => (a_btrfs(), 65536, 0x40..0x48),
        };
        for (place, byte) in noise.into_iter().enumerate().filter(|(place, _)| !magic.contains(place)) {
            head[superblock + place] = byte;
        }
        head.truncate(length);
        if let Some(Content::Found(found)) = recognise(&head) {
            prop_assert!(found.bytes > 0 && found.block_size >= 512);
            found.can_grow_on(u64::MAX);
        }
    }
}
