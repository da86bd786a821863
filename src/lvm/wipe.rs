//! What is done to the blocks of a deleted volume before they are free again.

use std::fmt;
use std::str::FromStr;

/// How the blocks of a deleted volume are made unreadable. Ordered by thoroughness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wipe {
    /// They are left as they are.
    None,
    /// The device is told that they are not needed; what it answers when they are read is its own affair.
    Discard,
    /// They are overwritten with zeroes.
    Zero,
}

impl Wipe {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Zero, Self::Discard, Self::None];

    /// The word for it in the classes file and in tags.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Discard => "discard",
            Self::Zero => "zero",
        }
    }
}

impl fmt::Display for Wipe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for Wipe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|wipe| wipe.word() == text)
            .ok_or_else(|| format!("{text:?} is no way to wipe; write zero, discard or none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_wipe_reads_back_from_its_word() {
        for wipe in Wipe::ALL {
            assert_eq!(wipe.to_string().parse(), Ok(wipe));
        }
        assert!("Zero".parse::<Wipe>().unwrap_err().contains("zero, discard or none"));
    }
}
