//! The checksum that LVM puts over labels, headers and metadata texts: the CRC-32 of Ethernet with a
//! starting value of its own and without the final inversion.

/// What the checksum of a structure starts from.
pub const INITIAL: u32 = 0xf597_a6cf;

const POLYNOMIAL: u32 = 0xedb8_8320;

const TABLE: [u32; 256] = table();

#[expect(clippy::cast_possible_truncation, reason = "an index below 256; `try_from` is not const")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

/// The checksum of `bytes`, going on from `start`: [`INITIAL`], or the checksum of what comes before.
pub fn checksum(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |value, byte| {
        let [low, ..] = value.to_le_bytes();
        (value >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_ethernets_start_and_end_it_is_the_well_known_crc() {
        assert_eq!(!checksum(u32::MAX, b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn it_can_be_computed_in_pieces() {
        let whole = checksum(INITIAL, b"physical_volumes");
        assert_eq!(checksum(checksum(INITIAL, b"physical"), b"_volumes"), whole);
    }

    #[test]
    fn nothing_leaves_it_where_it_starts() {
        assert_eq!(checksum(INITIAL, b""), INITIAL);
    }
}
