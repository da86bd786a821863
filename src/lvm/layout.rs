//! How a logical volume lies on the physical volumes. The one place that knows each layout's arguments
//! for lvm and its arithmetic: striped and raid are added here alone, as variants whose `match`
//! arms the compiler then asks for.

use std::fmt;
use std::str::FromStr;

use crate::lvm::model::VolumeGroup;
use crate::lvm::pool::{self, PoolRules};

/// Layouts that LVM has and this driver will have, but has not yet.
const PLANNED: [&str; 5] = ["striped", "raid1", "raid5", "raid6", "raid10"];

/// A layout of logical volumes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One extent after the other, on whichever physical volumes have room; no redundancy.
    Linear,
    /// Promised by a thin pool, which gives room as it is written to.
    Thin(PoolRules),
}

impl Layout {
    /// All of them, the default first.
    pub fn all() -> [Self; 2] {
        [Self::Linear, Self::Thin(PoolRules::default())]
    }

    /// The word for it in the classes file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Thin(_) => "thin",
        }
    }

    /// What `lvcreate` needs to be told for a volume of so many extents: its type and its size, not its name.
    pub fn lvcreate_arguments(&self, extents: u64, extent_bytes: u64) -> Vec<String> {
        match self {
            Self::Linear => {
                let extents = extents.to_string();
                ["--zero", "n", "--wipesignatures", "n", "--type", "linear", "--extents", &extents]
                    .map(String::from)
                    .to_vec()
            }
            Self::Thin(rules) => {
                let size = format!("{}b", extents.saturating_mul(extent_bytes));
                ["--type", "thin", "--virtualsize", &size, "--thinpool", &rules.name].map(String::from).to_vec()
            }
        }
    }

    /// Extents of the largest volume that can be made now, when at most `usable_extents` of the group may be taken (its
    /// free ones without the reserve). One extent more fails. The text says why there can be none.
    pub fn largest_extents(&self, group: &VolumeGroup, usable_extents: u64) -> Result<u64, String> {
        match self {
            Self::Linear => Ok(group.free_extents().min(usable_extents)),
            Self::Thin(rules) => pool::room(group, rules, group.free_extents().min(usable_extents)),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(layout) = Self::all().into_iter().find(|layout| layout.word() == text) {
            return Ok(layout);
        }
        let supported = Self::all().map(|layout| layout.word()).join(", ");
        let problem = if PLANNED.contains(&text) { "is not supported yet" } else { "is no layout" };
        Err(format!("{text:?} {problem}; supported today: {supported}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lvm::model::sample;

    #[test]
    fn a_linear_volume_may_span_all_physical_volumes_but_not_the_reserve() {
        let group = sample::group("vg", &[(100, 10), (100, 20)]);
        for (usable, largest) in [(30, 30), (25, 25), (99, 30)] {
            assert_eq!(Layout::Linear.largest_extents(&group, usable), Ok(largest));
        }
    }

    #[test]
    fn lvm_is_told_the_type_and_the_size() {
        assert_eq!(
            Layout::Linear.lvcreate_arguments(7, 4 << 20),
            ["--zero", "n", "--wipesignatures", "n", "--type", "linear", "--extents", "7"]
        );
        let thin = Layout::Thin(PoolRules::default()).lvcreate_arguments(2, 4 << 20);
        assert_eq!(thin, ["--type", "thin", "--virtualsize", "8388608b", "--thinpool", "quarry-thin"]);
    }

    #[test]
    fn layouts_to_come_are_told_apart_from_nonsense() {
        assert_eq!("linear".parse(), Ok(Layout::Linear));
        assert!("raid1".parse::<Layout>().unwrap_err().contains("not supported yet; supported today: linear, thin"));
        assert!("raid0+1".parse::<Layout>().unwrap_err().contains("is no layout"));
    }
}
