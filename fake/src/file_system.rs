//! The superblock of an ext4, as far as the driver looks at it.

use crate::disk_format::EXTENT;
use crate::machine::Machine;

pub const BLOCK: usize = 4096;
const SUPERBLOCK: usize = 1024;
/// The number of blocks within the superblock.
const BLOCKS: usize = SUPERBLOCK + 4;
const MAGIC: usize = SUPERBLOCK + 0x38;

/// The first block of an ext4 that fills so many bytes.
pub fn superblock(bytes: usize) -> Vec<u8> {
    let mut head = vec![0; BLOCK];
    let mut put = |offset: usize, bytes: &[u8]| {
        head[SUPERBLOCK + offset..SUPERBLOCK + offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0x04, &u32::try_from(bytes / BLOCK).unwrap().to_le_bytes());
    put(0x18, &2_u32.to_le_bytes());
    put(0x20, &32_768_u32.to_le_bytes());
    put(0x28, &8192_u32.to_le_bytes());
    put(0x38, &0xef53_u16.to_le_bytes());
    put(0x3a, &1_u16.to_le_bytes());
    put(0x4c, &1_u32.to_le_bytes());
    put(0x58, &256_u16.to_le_bytes());
    put(0x60, &0x80_u32.to_le_bytes());
    put(0x64, &1_u32.to_le_bytes());
    put(0xfe, &64_u16.to_le_bytes());
    head
}

/// Bytes of the ext4 that begins so; `None` where there is none.
pub fn bytes(head: &[u8]) -> Option<usize> {
    let blocks = u32::from_le_bytes(*head[BLOCKS..].first_chunk()?);
    (head[MAGIC..MAGIC + 2] == [0x53, 0xef]).then_some(usize::try_from(blocks).ok()? * BLOCK)
}

/// What resize2fs leaves: only the number of blocks changes.
pub fn grow(machine: &mut Machine, minor: u32) {
    let blocks = u32::try_from(machine.bytes_of(minor) / BLOCK).unwrap();
    machine.write_device(minor, BLOCKS, &blocks.to_le_bytes()).unwrap();
}

/// mkfs is for new volumes only, whose ends the driver has zeroed: this is law 1.
pub fn ensure_may_be_made(machine: &Machine, minor: u32) {
    let device = machine.devices[&minor].clone();
    let volume = machine.volume(&device.group, &device.volume).unwrap();
    assert!(volume.is_volume() && volume.has_tag("quarry.fresh"), "mkfs of {volume:?}, which is not fresh");
    assert!(!volume.is_deleting(), "mkfs of {volume:?}, which is being deleted");
    assert_eq!(machine.user_count(minor), 0, "mkfs of {volume:?}, which is open");
    let (bytes, ends) = (machine.bytes_of(minor), EXTENT / 4);
    for offset in [0, bytes - ends] {
        assert!(machine.is_zero(minor, offset, ends), "{} still has its earlier tenant's signatures", device.volume);
    }
}

/// `mkfs.ext4`.
pub fn make(machine: &mut Machine, minor: u32) {
    ensure_may_be_made(machine, minor);
    let bytes = machine.bytes_of(minor);
    machine.write_device(minor, 0, &superblock(bytes)).unwrap();
}
