//! How a logical volume lies on the physical volumes. The one place that knows each layout's arguments
//! for lvm and its arithmetic: striped, raid and thin are added here alone, as variants whose `match`
//! arms the compiler then asks for.

use std::fmt;
use std::str::FromStr;

use crate::lvm::model::VolumeGroup;

/// Layouts that LVM has and this driver will have, but has not yet.
const PLANNED: [&str; 6] = ["striped", "raid1", "raid5", "raid6", "raid10", "thin"];

/// A layout of logical volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One extent after the other, on whichever physical volumes have room; no redundancy.
    Linear,
}

impl Layout {
    /// All of them, the default first.
    pub const ALL: [Self; 1] = [Self::Linear];

    /// The word for it in the classes file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Linear => "linear",
        }
    }

    /// What `lvcreate` needs to be told for a volume of so many extents: its type and its size, not its name.
    pub fn lvcreate_arguments(self, extents: u64) -> Vec<String> {
        match self {
            Self::Linear => ["--type", "linear", "--extents", &extents.to_string()].map(String::from).to_vec(),
        }
    }

    /// What `lvextend` needs to be told to grow a volume to so many extents in all.
    pub fn lvextend_arguments(self, extents: u64) -> Vec<String> {
        match self {
            Self::Linear => vec![String::from("--extents"), extents.to_string()],
        }
    }

    /// Extents of the largest volume that `lvcreate` can make now, when at most `usable_extents` of the
    /// group may be taken (its free ones without the reserve). One extent more fails.
    pub fn largest_extents(self, group: &VolumeGroup, usable_extents: u64) -> u64 {
        match self {
            Self::Linear => group.free_extents().min(usable_extents),
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
        if let Some(layout) = Self::ALL.into_iter().find(|layout| layout.word() == text) {
            return Ok(layout);
        }
        let supported = Self::ALL.map(Self::word).join(", ");
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
        assert_eq!(Layout::Linear.largest_extents(&group, 30), 30);
        assert_eq!(Layout::Linear.largest_extents(&group, 25), 25);
        assert_eq!(Layout::Linear.largest_extents(&group, 99), 30);
    }

    #[test]
    fn lvm_is_told_the_type_and_the_extents() {
        assert_eq!(Layout::Linear.lvcreate_arguments(7), ["--type", "linear", "--extents", "7"]);
        assert_eq!(Layout::Linear.lvextend_arguments(9), ["--extents", "9"]);
    }

    #[test]
    fn layouts_to_come_are_told_apart_from_nonsense() {
        assert_eq!("linear".parse(), Ok(Layout::Linear));
        assert!("raid1".parse::<Layout>().unwrap_err().contains("not supported yet; supported today: linear"));
        assert!("raid0+1".parse::<Layout>().unwrap_err().contains("is no layout"));
    }
}
