//! The label that makes a device a physical volume: one sector among its first four.

use super::checksum::{INITIAL, checksum};

/// Bytes of a sector, LVM's unit on disk.
pub const SECTOR: usize = 512;

/// How many sectors at the start of a device may hold the label.
const SECTORS: usize = 4;

/// Where the checksummed part of a label begins, within its sector.
const CHECKSUMMED: usize = 20;

/// A stretch of a physical volume, bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region {
    /// Where it starts.
    pub offset: u64,
    /// How long it is; for a data area 0 means: to the end.
    pub size: u64,
}

/// What a physical volume says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its UUID, with hyphens.
    pub uuid: String,
    /// Where metadata of the volume group lies; may be none.
    pub metadata_areas: Vec<Region>,
}

/// Why what looks like a label is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Damaged, or just being written.
    #[error("the label in sector {sector} has the checksum {found:#010x}, but its content gives {computed:#010x}")]
    Checksum {
        /// Sector of the device.
        sector: usize,
        /// What it says.
        found: u32,
        /// What it should say.
        computed: u32,
    },
    /// The checksum is right, the content makes no sense.
    #[error("the label in sector {sector}: {problem}")]
    Malformed {
        /// Sector of the device.
        sector: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Finds the label in the first bytes of a device. `Ok(None)` where there is none of LVM2.
pub fn find(head: &[u8]) -> Result<Option<Label>, LabelError> {
    for (sector, bytes) in head.chunks_exact(SECTOR).take(SECTORS).enumerate() {
        if !bytes.starts_with(b"LABELONE") || bytes.get(24..32) != Some(b"LVM2 001".as_slice()) {
            continue;
        }
        let malformed = |problem| LabelError::Malformed { sector, problem };
        let found = u32_at(bytes, 16).ok_or(malformed("it is cut off"))?;
        let computed = checksum(INITIAL, &bytes[CHECKSUMMED..]);
        if found != computed {
            return Err(LabelError::Checksum { sector, found, computed });
        }
        // A label that names another sector was copied here with a partition or an image.
        if u64_at(bytes, 8) != u64::try_from(sector).ok() {
            continue;
        }
        return header(bytes).map(Some).map_err(malformed);
    }
    Ok(None)
}

/// Whether the device carries a table of partitions in its first sector: LVM then lets it alone,
/// even where the label of an earlier life is still there.
pub fn is_partitioned(head: &[u8]) -> bool {
    let Some(table) = head.get(446..510) else { return false };
    if head.get(510..512) != Some([0x55, 0xaa].as_slice()) {
        return false;
    }
    // The first byte of an entry is 0x00 or 0x80; anything else is the code of a boot sector.
    let mut entries = table.chunks_exact(16);
    entries.clone().all(|entry| matches!(entry[0], 0x00 | 0x80)) && entries.any(|entry| entry[12..] != [0; 4])
}

fn header(sector: &[u8]) -> Result<Label, &'static str> {
    let start = u32_at(sector, 20).and_then(|offset| usize::try_from(offset).ok()).ok_or("it is cut off")?;
    let header = sector.get(start..).ok_or("its header lies outside the sector")?;
    let uuid = header.get(..32).and_then(hyphenated).ok_or("the UUID is not of letters and digits")?;
    // Between the two lies the device's size.
    let lists = header.get(40..).ok_or("its header is cut off")?;
    let (_data_areas, rest) = regions(lists).ok_or("the list of data areas does not end")?;
    let (metadata_areas, _extension) = regions(rest).ok_or("the list of metadata areas does not end")?;
    Ok(Label { uuid, metadata_areas })
}

/// A list of regions that an all-zero one ends, and what follows it.
fn regions(bytes: &[u8]) -> Option<(Vec<Region>, &[u8])> {
    let mut list = Vec::new();
    for (index, entry) in bytes.chunks_exact(16).enumerate() {
        let region = Region { offset: u64_at(entry, 0)?, size: u64_at(entry, 8)? };
        if region.offset == 0 {
            return Some((list, &bytes[(index + 1) * 16..]));
        }
        list.push(region);
    }
    None
}

/// The 32 characters of a UUID in the groups in which LVM writes them.
fn hyphenated(raw: &[u8]) -> Option<String> {
    let mut uuid = String::with_capacity(38);
    for (index, byte) in raw.iter().enumerate() {
        if !byte.is_ascii_alphanumeric() && !matches!(byte, b'!' | b'#') {
            return None;
        }
        if matches!(index, 6 | 10 | 14 | 18 | 22 | 26) {
            uuid.push('-');
        }
        uuid.push(char::from(*byte));
    }
    Some(uuid)
}

/// The little-endian number at `offset`.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_le_bytes(*field))
}

/// The little-endian number at `offset`.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first 8 KiB of a physical volume of 64 MiB that lvm2 2.03.16 made with two metadata areas.
    const HEAD: &[u8] = include_bytes!("../../tests/fixtures/lvm/head.bin");

    #[test]
    fn the_label_of_a_real_physical_volume_is_understood() {
        let label = find(HEAD).unwrap().unwrap();
        assert_eq!(label.uuid, "EdqX53-Oa6q-Kpbo-XOWK-VMx9-mbEc-kfb78Z");
        let areas = [Region { offset: 4096, size: 0xf_f000 }, Region { offset: 0x3f0_0000, size: 1 << 20 }];
        assert_eq!(label.metadata_areas, areas);
    }

    #[test]
    fn a_device_without_label_is_no_error() {
        assert_eq!(find(&[0; 8192]), Ok(None));
        assert_eq!(find(b"LABELONE"), Ok(None));
        assert_eq!(find(&[]), Ok(None));
    }

    #[test]
    fn a_label_is_found_only_in_the_sector_that_it_names() {
        let mut moved = vec![0; 8192];
        moved[1024..1536].copy_from_slice(&HEAD[512..1024]);
        assert_eq!(find(&moved), Ok(None));
        moved[1024 + 8] = 2;
        assert!(find(&moved).unwrap().is_some(), "the number of the sector is not part of the checksum");
    }

    #[test]
    fn a_table_of_partitions_is_told_from_boot_code_and_from_nothing() {
        let mut head = [0; 512];
        assert!(!is_partitioned(&head));
        head[510..].copy_from_slice(&[0x55, 0xaa]);
        assert!(!is_partitioned(&head), "no partition has a size");
        head[446 + 12] = 1;
        assert!(is_partitioned(&head));
        head[446 + 16] = 0x33;
        assert!(!is_partitioned(&head), "a boot sector");
        assert!(!is_partitioned(&[0; 511]));
        assert!(!is_partitioned(HEAD));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_label(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            prop_assert_eq!(find(&bytes), Ok(None));
            is_partitioned(&bytes);
        }

        #[test]
        fn a_changed_label_never_panics_and_never_passes(position in 512_usize..1024, value in any::<u8>()) {
            let mut head = HEAD.to_vec();
            let changed = head[position] != value;
            head[position] = value;
            prop_assert_eq!(matches!(find(&head), Ok(Some(_))), !changed);
        }

        #[test]
        fn a_label_of_nonsense_with_the_right_checksum_never_panics(content in proptest::collection::vec(any::<u8>(), 480)) {
            let mut sector = vec![0; 512];
            sector[..8].copy_from_slice(b"LABELONE");
            sector[20..24].copy_from_slice(&content[..4]);
            sector[21..24].fill(0);
            sector[24..32].copy_from_slice(b"LVM2 001");
            sector[32..].copy_from_slice(&content);
            let sum = checksum(INITIAL, &sector[20..]);
            sector[16..20].copy_from_slice(&sum.to_le_bytes());
            let _ = find(&sector);
        }
    }
}
