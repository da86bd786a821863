//! The header of a metadata area and the ring behind it, in which the texts of the volume group lie
//! one after the other. A commit writes the new text into the free part of the ring and then turns
//! the header to it, so the header's location is what is true.

use super::checksum::{INITIAL, checksum};
use super::label::{Region, u32_at, u64_at};

/// Bytes of the header; the ring fills the rest of the area.
pub const HEADER_BYTES: u64 = 512;

/// The longest text that is read, bytes. A group of 100,000 volumes needs half of it; a damaged header
/// must not make the driver allocate what the device is large.
const LONGEST_TEXT: u64 = 64 << 20;

const MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";
const VERSION: u32 = 1;
const IGNORED: u32 = 1;

/// Where a text lies, and its checksum: changes with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// Bytes from the start of the area.
    pub offset: u64,
    /// Bytes of the text, its closing zero included.
    pub size: u64,
    /// Of the text.
    pub checksum: u32,
}

/// What a metadata area holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// No volume group.
    Nothing,
    /// Nothing that counts (`pvchange --metadataignore y`).
    Ignored,
    /// The text of a volume group.
    Text(Location),
}

/// The header of a metadata area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The area, bytes on its device.
    pub area: Region,
    /// What it holds.
    pub content: Content,
}

/// Why a metadata area cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AreaError {
    /// Damaged, or just being written.
    #[error("its header has the checksum {found:#010x}, but its content gives {computed:#010x}")]
    HeaderChecksum {
        /// What it says.
        found: u32,
        /// What it should say.
        computed: u32,
    },
    /// Damaged, or overwritten while it was read.
    #[error(
        "the text at {offset} of {size} bytes should have the checksum {expected:#010x}, but gives {computed:#010x}"
    )]
    TextChecksum {
        /// Bytes from the start of the area.
        offset: u64,
        /// Bytes.
        size: u64,
        /// What the header says.
        expected: u32,
        /// What the text gives.
        computed: u32,
    },
    /// The checksum is right, the content makes no sense.
    #[error("its header {problem}")]
    Malformed {
        /// What is wrong.
        problem: String,
    },
}

impl AreaError {
    /// Whether reading again may help, because lvm may have been writing.
    pub fn may_be_torn(&self) -> bool {
        !matches!(self, Self::Malformed { .. })
    }
}

/// Understands the header of the area that the label says is at `area`.
pub fn header(area: Region, bytes: &[u8]) -> Result<Header, AreaError> {
    let cut = || malformed("is cut off");
    let bytes = bytes.get(..512).ok_or_else(cut)?;
    let found = u32_at(bytes, 0).ok_or_else(cut)?;
    let computed = checksum(INITIAL, &bytes[4..]);
    if found != computed {
        return Err(AreaError::HeaderChecksum { found, computed });
    }
    if !bytes[4..].starts_with(MAGIC) {
        return Err(malformed("does not carry the mark of LVM2"));
    }
    let version = u32_at(bytes, 20).ok_or_else(cut)?;
    if version != VERSION {
        return Err(malformed(format!("is of version {version}, only {VERSION} is known")));
    }
    let start = u64_at(bytes, 24).ok_or_else(cut)?;
    if start != area.offset {
        return Err(malformed(format!("belongs to {start}, not to {}", area.offset)));
    }
    let size = u64_at(bytes, 32).ok_or_else(cut)?;
    let location = Location {
        offset: u64_at(bytes, 40).ok_or_else(cut)?,
        size: u64_at(bytes, 48).ok_or_else(cut)?,
        checksum: u32_at(bytes, 56).ok_or_else(cut)?,
    };
    let flags = u32_at(bytes, 60).ok_or_else(cut)?;
    let content = match location {
        _ if flags & IGNORED != 0 => Content::Ignored,
        Location { offset: 0, .. } => Content::Nothing,
        _ => Content::Text(location),
    };
    let header = Header { area: Region { offset: start, size }, content };
    if let Content::Text(location) = content {
        check(&header, location)?;
    }
    Ok(header)
}

fn check(header: &Header, location: Location) -> Result<(), AreaError> {
    let Region { offset: start, size: area } = header.area;
    let Location { offset, size, .. } = location;
    if start.checked_add(area).is_none() || area <= HEADER_BYTES {
        return Err(malformed(format!("gives the area {area} bytes from {start} on")));
    }
    if offset < HEADER_BYTES || offset >= area || size == 0 || size > header.ring() {
        return Err(malformed(format!("puts a text of {size} bytes at {offset} into an area of {area} bytes")));
    }
    if size > LONGEST_TEXT {
        return Err(malformed(format!("speaks of a text of {size} bytes; at most {LONGEST_TEXT} are read")));
    }
    Ok(())
}

fn malformed(problem: impl Into<String>) -> AreaError {
    AreaError::Malformed { problem: problem.into() }
}

impl Header {
    /// Bytes that the texts have for themselves.
    pub fn ring(&self) -> u64 {
        self.area.size.saturating_sub(HEADER_BYTES)
    }

    /// Where on the device the text lies: one stretch, or two where it goes round the end of the ring.
    pub fn regions(&self, location: Location) -> Vec<Region> {
        let Region { offset: start, size: area } = self.area;
        let first = location.size.min(area.saturating_sub(location.offset));
        let mut regions = vec![Region { offset: start.saturating_add(location.offset), size: first }];
        if location.size > first {
            regions.push(Region { offset: start.saturating_add(HEADER_BYTES), size: location.size - first });
        }
        regions
    }
}

/// The text of the metadata without its closing zero, if the bytes read are what the header promises.
pub fn text(location: Location, mut bytes: Vec<u8>) -> Result<Vec<u8>, AreaError> {
    let Location { offset, size, checksum: expected } = location;
    let computed = checksum(INITIAL, &bytes);
    if computed != expected || u64::try_from(bytes.len()) != Ok(size) {
        return Err(AreaError::TextChecksum { offset, size, expected, computed });
    }
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first 8 KiB of a physical volume that lvm2 2.03.16 made; the area begins at 4096.
    const HEAD: &[u8] = include_bytes!("../../tests/fixtures/lvm/head.bin");
    const AREA: Region = Region { offset: 4096, size: 0xf_f000 };

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let sum = checksum(INITIAL, &bytes[4..512]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn header_with(position: usize, value: &[u8]) -> Result<Header, AreaError> {
        let mut bytes = HEAD[4096..4608].to_vec();
        bytes[position..position + value.len()].copy_from_slice(value);
        header(AREA, &sealed(bytes))
    }

    #[test]
    fn the_header_of_a_real_area_leads_to_its_text() {
        let header = header(AREA, &HEAD[4096..]).unwrap();
        let Content::Text(location) = header.content else { panic!("{header:?}") };
        assert_eq!(location, Location { offset: 0xe00, size: 0x6a4, checksum: 0x4acb_fd6d });
        assert_eq!(header.regions(location), [Region { offset: 4096 + 0xe00, size: 0x6a4 }]);
        assert_eq!(header.ring(), 0xf_ee00);
    }

    #[test]
    fn a_text_that_goes_round_the_ring_lies_in_two_stretches() {
        let location = Location { offset: 0x900, size: 0x800, checksum: 0 };
        let header = Header { area: Region { offset: 4096, size: 4096 }, content: Content::Text(location) };
        let regions = [Region { offset: 4096 + 0x900, size: 0x700 }, Region { offset: 4096 + 512, size: 0x100 }];
        assert_eq!(header.regions(location), regions);
    }

    #[test]
    fn an_ignored_and_an_empty_area_hold_no_text() {
        assert_eq!(header_with(60, &[1]).unwrap().content, Content::Ignored);
        assert_eq!(header_with(40, &[0; 24]).unwrap().content, Content::Nothing);
    }

    #[test]
    fn a_header_that_makes_no_sense_is_refused_with_a_reason() {
        for (position, value, reason) in [
            (4, &b"LVM3"[..], "mark of LVM2"),
            (20, &[2], "of version 2"),
            (24, &[1], "belongs to 4097"),
            (32, &[0; 8], "gives the area 0 bytes"),
            (32, &[255; 8], "gives the area"),
            (40, &[1, 0], "puts a text of 1700 bytes at 1 into"),
            (40, &[255; 8], "puts a text"),
            (48, &[0; 8], "puts a text of 0 bytes"),
            (48, &[255; 8], "puts a text"),
        ] {
            let error = header_with(position, value).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert!(!error.may_be_torn());
        }
    }

    #[test]
    fn a_text_longer_than_what_is_read_is_refused() {
        let mut bytes = HEAD[4096..4608].to_vec();
        bytes[32..40].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        bytes[48..56].copy_from_slice(&(1_u64 << 39).to_le_bytes());
        let error = header(AREA, &sealed(bytes)).unwrap_err();
        assert!(error.to_string().contains("at most 67108864 are read"), "{error}");
    }

    #[test]
    fn a_text_is_believed_only_with_its_checksum() {
        let written = b"group {}\n\0".to_vec();
        let location = Location { offset: 512, size: 10, checksum: checksum(INITIAL, &written) };
        assert_eq!(text(location, written.clone()).unwrap(), b"group {}\n");
        let error = text(Location { checksum: 1, ..location }, written.clone()).unwrap_err();
        assert!(error.may_be_torn());
        assert!(text(Location { size: 11, ..location }, written).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1024)) {
            prop_assert!(header(AREA, &bytes).is_err());
        }

        #[test]
        fn a_changed_header_never_passes(position in 4096_usize..4608, value in any::<u8>()) {
            let mut head = HEAD.to_vec();
            let changed = head[position] != value;
            head[position] = value;
            prop_assert_eq!(header(AREA, &head[4096..]).is_err(), changed);
        }

        #[test]
        fn whatever_a_sealed_header_says_its_text_lies_within_its_area(
            size in any::<u64>(), offset in any::<u64>(), length in any::<u64>()
        ) {
            let mut bytes = HEAD[4096..4608].to_vec();
            bytes[32..40].copy_from_slice(&size.to_le_bytes());
            bytes[40..48].copy_from_slice(&offset.to_le_bytes());
            bytes[48..56].copy_from_slice(&length.to_le_bytes());
            if let Ok(header) = header(AREA, &sealed(bytes))
                && let Content::Text(location) = header.content
            {
                let regions = header.regions(location);
                prop_assert_eq!(regions.iter().map(|region| region.size).sum::<u64>(), location.size);
                for region in regions {
                    prop_assert!(region.offset >= 4096 + 512 && region.offset + region.size <= 4096 + size);
                }
            }
        }
    }
}
