//! Bytes and extents. All arithmetic is exact, in whole bytes.

use std::fmt;
use std::str::FromStr;

/// The units that are read, with their bytes. `G` is a thousand million as in Kubernetes, not LVM's `g`.
const UNITS: [(&str, u64); 23] = [
    ("", 1),
    ("B", 1),
    ("k", 1_000),
    ("K", 1_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("Ki", 1 << 10),
    ("KiB", 1 << 10),
    ("M", 1_000_000),
    ("MB", 1_000_000),
    ("Mi", 1 << 20),
    ("MiB", 1 << 20),
    ("G", 1_000_000_000),
    ("GB", 1_000_000_000),
    ("Gi", 1 << 30),
    ("GiB", 1 << 30),
    ("T", 1_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("Ti", 1 << 40),
    ("TiB", 1 << 40),
    ("P", 1_000_000_000_000_000),
    ("Pi", 1 << 50),
    ("PiB", 1 << 50),
];

/// The units that are written, largest first.
const DISPLAY_UNITS: [(&str, u64); 5] =
    [("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A number from here on is hard to read; a larger unit is taken then.
const MANY: u128 = 10_000;

/// Why a text is no size, or a size cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a number with a unit.
    #[error("{0:?} is no size; write a number with a unit, such as 10GiB, 512MiB or 10G (a thousand million bytes)")]
    NotASize(String),
    /// The unit does not exist.
    #[error(
        "{unit:?} in {text:?} is no unit; units are Ki, Mi, Gi, Ti, Pi (also KiB…) and k, M, G, T, P for powers of 1,000"
    )]
    Unit {
        /// The whole text.
        text: String,
        /// What stands where the unit should be.
        unit: String,
    },
    /// A fraction that leaves a part of a byte.
    #[error("{0:?} is no whole number of bytes")]
    PartOfAByte(String),
    /// More than 64 bits of bytes.
    #[error("{0} is more than can be counted (at most 16 EiB)")]
    TooLarge(String),
}

/// A number of bytes as people read and write it: `10GiB`, `1.5 GiB`, `512`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let trimmed = text.trim();
        let number_end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(number_end);
        let unit = unit.trim_start();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return Err(SizeError::NotASize(text.to_owned()));
        }
        let Some((_, unit_bytes)) = UNITS.iter().find(|(word, _)| *word == unit) else {
            return Err(SizeError::Unit { text: text.to_owned(), unit: unit.to_owned() });
        };
        let too_large = || SizeError::TooLarge(text.to_owned());
        let whole_bytes =
            whole.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit_bytes)).ok_or_else(too_large)?;
        let fraction_bytes =
            fraction_of(fraction, *unit_bytes).ok_or_else(|| SizeError::PartOfAByte(text.to_owned()))?;
        whole_bytes.checked_add(fraction_bytes).map(Self).ok_or_else(too_large)
    }
}

/// `0.<digits>` of a unit, where that is a whole number of bytes.
fn fraction_of(digits: &str, unit_bytes: u64) -> Option<u64> {
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let numerator = digits.parse::<u64>().ok()?;
    let denominator = 10_u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let product = u128::from(numerator) * u128::from(unit_bytes);
    (product % denominator == 0).then(|| u64::try_from(product / denominator).ok()).flatten()
}

impl fmt::Display for Bytes {
    /// Exact: `1 GiB`, `1.25 GiB`, `1025 GiB`, `1.5 GiB (1610612737 bytes)`, `512 bytes`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = u128::from(self.0);
        let mut units = DISPLAY_UNITS.iter().filter(|(_, unit_bytes)| self.0 >= *unit_bytes);
        let Some(largest) = units.clone().next() else {
            return if bytes == 1 { write!(formatter, "1 byte") } else { write!(formatter, "{bytes} bytes") };
        };
        let is_exact = |unit_bytes: u128| bytes * 100 % unit_bytes == 0 && bytes / unit_bytes < MANY;
        let exact = units.find(|(_, unit_bytes)| is_exact(u128::from(*unit_bytes)));
        let (unit, unit_bytes) = exact.unwrap_or(largest);
        let hundredths = bytes * 100 / u128::from(*unit_bytes);
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        match rest {
            0 => write!(formatter, "{whole} {unit}")?,
            rest if rest % 10 == 0 => write!(formatter, "{whole}.{} {unit}", rest / 10)?,
            rest => write!(formatter, "{whole}.{rest:02} {unit}")?,
        }
        if exact.is_some() { Ok(()) } else { write!(formatter, " ({bytes} bytes)") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<u64, SizeError> {
        text.parse::<Bytes>().map(|bytes| bytes.0)
    }

    #[test]
    fn sizes_are_read_as_kubernetes_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("10GiB", 10 << 30),
            ("10Gi", 10 << 30),
            ("10 GiB", 10 << 30),
            ("10G", 10_000_000_000),
            ("10GB", 10_000_000_000),
            ("512MiB", 512 << 20),
            ("1k", 1_000),
            ("1.5Gi", 1_610_612_736),
            ("0.001k", 1),
            ("18446744073709551615", u64::MAX),
            ("16383Pi", 16_383 << 50),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_reason() {
        for text in ["", "GiB", "-1", "+1", "1..5", ".5G", "1.", "1,5G", "ten"] {
            assert!(matches!(parse(text), Err(SizeError::NotASize(_) | SizeError::Unit { .. })), "{text}");
        }
        for text in ["1g", "1m", "1gib", "1 Gi B", "1e9", "1_000", "1%"] {
            assert!(matches!(parse(text), Err(SizeError::Unit { .. })), "{text}");
        }
        assert!(matches!(parse("1.5"), Err(SizeError::PartOfAByte(_))));
        assert!(matches!(parse("0.1Ki"), Err(SizeError::PartOfAByte(_))));
        for text in ["18446744073709551616", "16384Pi", "99999999999999999999999999Gi"] {
            assert!(matches!(parse(text), Err(SizeError::TooLarge(_))), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_for_people_and_stay_exact() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1_023, "1023 bytes"),
            (1 << 30, "1 GiB"),
            (1_610_612_736, "1.5 GiB"),
            (1_610_612_737, "1.5 GiB (1610612737 bytes)"),
            ((1 << 30) - 1, "1023.99 MiB (1073741823 bytes)"),
            (5 << 28, "1.25 GiB"),
            (1_025 << 30, "1025 GiB"),
            (4 << 20, "4 MiB"),
            (u64::MAX, "16383.99 PiB (18446744073709551615 bytes)"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_without_brackets_reads_back_the_same(bytes: u64) {
            let text = Bytes(bytes).to_string();
            if !text.contains('(') && !text.contains("byte") {
                prop_assert_eq!(parse(&text), Ok(bytes));
            }
        }

        #[test]
        fn plain_bytes_read_back_the_same(bytes: u64) {
            prop_assert_eq!(parse(&bytes.to_string()), Ok(bytes));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = parse(&text);
        }

        #[test]
        fn whole_gibibytes_are_exact_in_both_directions(gibibytes in 1_u64..1 << 20) {
            let text = format!("{gibibytes}GiB");
            prop_assert_eq!(parse(&text), Ok(gibibytes << 30));
            prop_assert!(gibibytes >= 10_000 || !Bytes(gibibytes << 30).to_string().contains("bytes"));
        }
    }
}
