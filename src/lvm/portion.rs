//! A part of something: a share or a size.

use std::fmt;
use std::str::FromStr;

use crate::lvm::size::Bytes;

/// Parts of the whole that percentages are counted in: hundredths of a percent.
const WHOLE: u64 = 10_000;

/// A part of a volume group, such as what stays free of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Portion {
    /// Hundredths of a percent of the group, 0 to 10,000.
    Share(u64),
    /// Bytes.
    Bytes(u64),
}

impl Portion {
    /// Nothing.
    pub const NONE: Self = Self::Bytes(0);

    /// Everything.
    pub const ALL: Self = Self::Share(WHOLE);

    /// Extents of a whole of so many, rounded up. May be more than the whole.
    pub fn extents(self, whole_extents: u64, extent_bytes: u64) -> u64 {
        match self {
            Self::Share(share) => {
                let extents = (u128::from(whole_extents) * u128::from(share)).div_ceil(u128::from(WHOLE));
                u64::try_from(extents).unwrap_or(u64::MAX)
            }
            Self::Bytes(0) => 0,
            Self::Bytes(bytes) => {
                bytes.checked_next_multiple_of(extent_bytes).map_or(u64::MAX, |all| all / extent_bytes)
            }
        }
    }

    /// The same rounded down.
    pub fn whole_extents(self, of_extents: u64, extent_bytes: u64) -> u64 {
        match self {
            Self::Share(share) => {
                let extents = u128::from(of_extents) * u128::from(share) / u128::from(WHOLE);
                u64::try_from(extents).unwrap_or(u64::MAX)
            }
            Self::Bytes(bytes) => bytes / extent_bytes,
        }
    }
}

impl Default for Portion {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromStr for Portion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(number) = text.trim().strip_suffix('%') else {
            let bytes = text.parse::<Bytes>().map_err(|error| format!("{error}; or a share such as 5%"))?;
            return Ok(Self::Bytes(bytes.0));
        };
        let share = hundredths(number.trim_end()).filter(|share| *share <= WHOLE);
        share
            .map(Self::Share)
            .ok_or_else(|| format!("{text:?} is no share; write 0% to 100%, with at most two decimals, or a size"))
    }
}

/// A decimal number with at most two decimals, times 100.
pub(crate) fn hundredths(number: &str) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 2 {
        return None;
    }
    format!("{whole}{decimals:0<2}").parse().ok()
}

impl fmt::Display for Portion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => match (share / 100, share % 100) {
                (whole, 0) => write!(formatter, "{whole}%"),
                (whole, rest) if rest % 10 == 0 => write!(formatter, "{whole}.{}%", rest / 10),
                (whole, rest) => write!(formatter, "{whole}.{rest:02}%"),
            },
            Self::Bytes(bytes) => Bytes(*bytes).fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXTENT: u64 = 4 << 20;

    #[test]
    fn shares_and_sizes_are_read_and_written() {
        for (text, reserve, written) in [
            ("5%", Portion::Share(500), "5%"),
            ("0%", Portion::Share(0), "0%"),
            ("100%", Portion::Share(10_000), "100%"),
            ("2.5 %", Portion::Share(250), "2.5%"),
            ("0.05%", Portion::Share(5), "0.05%"),
            ("10GiB", Portion::Bytes(10 << 30), "10 GiB"),
            ("0", Portion::NONE, "0 bytes"),
        ] {
            assert_eq!(text.parse(), Ok(reserve), "{text}");
            assert_eq!(reserve.to_string(), written);
        }
        for text in ["", "%", "-5%", "101%", "100.01%", "5.123%", "5%%", "five%", "5 percent", "99999999999999999999%"]
        {
            assert!(text.parse::<Portion>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_kept_rounds_up_and_what_is_taken_down() {
        assert_eq!(Portion::Share(500).extents(100, EXTENT), 5);
        assert_eq!(Portion::Share(500).extents(101, EXTENT), 6);
        assert_eq!(Portion::Share(1).extents(1, EXTENT), 1);
        assert_eq!(Portion::Share(0).extents(101, EXTENT), 0);
        assert_eq!(Portion::Bytes(EXTENT).extents(100, EXTENT), 1);
        assert_eq!(Portion::Bytes(EXTENT + 1).extents(100, EXTENT), 2);
        assert_eq!(Portion::NONE.extents(100, EXTENT), 0);
        assert_eq!(Portion::Share(9_999).whole_extents(100, EXTENT), 99);
        assert_eq!(Portion::ALL.whole_extents(101, EXTENT), 101);
        assert_eq!(Portion::Bytes(2 * EXTENT - 1).whole_extents(100, EXTENT), 1);
    }

    proptest! {
        #[test]
        fn nothing_overflows(share in 0..=WHOLE, bytes: u64, extents: u64, shift in 9_u32..40) {
            prop_assert!(Portion::Share(share).extents(extents, 1 << shift) <= extents);
            let kept = Portion::Bytes(bytes).extents(extents, 1 << shift);
            prop_assert!(u128::from(kept) << shift >= u128::from(bytes));
        }
    }
}
