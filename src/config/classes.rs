//! Classes: what a storage class may ask for by name, and where such volumes lie.

use crate::config::pattern::Pattern;
use crate::config::trim_schedule::TrimSchedule;
use crate::lvm::layout::Layout;
use crate::lvm::model::VolumeGroup;
use crate::lvm::portion::Portion;
use crate::lvm::wipe::Wipe;

/// The file systems that a class can name, the default first.
pub const FILE_SYSTEMS: [&str; 3] = ["ext4", "xfs", "btrfs"];

/// The size of a volume when neither the request nor the class names one, bytes.
pub const DEFAULT_SIZE_BYTES: u64 = 1 << 30;

/// The name of the class that the flag `--volume-group` makes.
pub const SINGLE_CLASS_NAME: &str = "default";

/// One class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its name: lower-case letters, digits, `-` and `.`, at most 63 bytes.
    pub name: String,
    /// Whether it was declared the default. [`Classes::default_class`] knows which one is.
    pub default: bool,
    /// The volume groups it may use; their order does not matter, as a volume goes to the one with the most room.
    pub volume_groups: Vec<Pattern>,
    /// How its volumes lie on the physical volumes.
    pub layout: Layout,
    /// What its volumes leave free of each volume group.
    pub reserve: Portion,
    /// Room for what its thick volumes overwrite while a snapshot of them is kept, as a part of the volume. Thin
    /// snapshots need none.
    pub snapshot_reserve: Portion,
    /// Bytes a second that a volume of it is written with while it is copied; as fast as can be when not given.
    pub copy_rate: Option<u64>,
    /// What is done to the blocks of its deleted volumes.
    pub wipe: Wipe,
    /// How often its mounted volumes are trimmed (fstrim(8)).
    pub trim: TrimSchedule,
    /// The file system of its volumes when the request names none: one of [`FILE_SYSTEMS`].
    pub file_system: String,
    /// Further arguments for `mkfs`, one word each.
    pub mkfs_options: Vec<String>,
    /// Mount options, one word each.
    pub mount_options: Vec<String>,
    /// The size of a volume when the request names none, bytes.
    pub default_size: u64,
}

impl Class {
    /// A class with these volume groups, everything else as when the classes file does not say it.
    pub fn new(name: String, volume_groups: Vec<Pattern>) -> Self {
        Self {
            name,
            default: false,
            volume_groups,
            layout: Layout::Linear,
            reserve: Portion::NONE,
            snapshot_reserve: Portion::Share(2_000),
            copy_rate: None,
            wipe: Wipe::Zero,
            trim: TrimSchedule::NEVER,
            file_system: String::from(FILE_SYSTEMS[0]),
            mkfs_options: Vec::new(),
            mount_options: Vec::new(),
            default_size: DEFAULT_SIZE_BYTES,
        }
    }

    /// Whether its volumes may lie in the volume group of this name.
    pub fn uses(&self, group_name: &str) -> bool {
        self.volume_groups.iter().any(|pattern| pattern.matches(group_name))
    }

    /// Extents of the group that its volumes may still take: the free ones without the reserve.
    pub fn usable_extents(&self, group: &VolumeGroup) -> u64 {
        group.free_extents().saturating_sub(self.reserve.extents(group.extents(), group.extent_bytes))
    }

    /// Extents of the largest volume of this class that the group can take now. The text says why it can take none.
    pub fn largest_extents(&self, group: &VolumeGroup) -> Result<u64, String> {
        self.layout.largest_extents(group, self.usable_extents(group))
    }
}

/// All classes of a node: at least one, each name once, at most one declared the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes(Vec<Class>);

impl Classes {
    /// For the reader of the classes file, which has checked what this type promises.
    pub(super) fn from_checked(classes: Vec<Class>) -> Self {
        Self(classes)
    }

    /// A single class, named [`SINGLE_CLASS_NAME`], with these volume groups (names or globs).
    pub fn single(volume_groups: &[String]) -> Result<Self, String> {
        if volume_groups.is_empty() {
            return Err(String::from("no volume group is named"));
        }
        let patterns = volume_groups.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Self(vec![Class { default: true, ..Class::new(String::from(SINGLE_CLASS_NAME), patterns) }]))
    }

    /// The class of that name.
    pub fn class(&self, name: &str) -> Option<&Class> {
        self.0.iter().find(|class| class.name == name)
    }

    /// The class of a request that names none: the one declared the default, or the only one there is.
    pub fn default_class(&self) -> Option<&Class> {
        match self.0.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|class| class.default),
        }
    }

    /// The classes in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Class> {
        self.0.iter()
    }

    /// Whether any class uses the volume group of this name.
    pub fn use_group(&self, group_name: &str) -> bool {
        self.0.iter().any(|class| class.uses(group_name))
    }

    /// The names of all classes, for messages: `fast, slow`.
    pub fn names(&self) -> String {
        self.0.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl<'a> IntoIterator for &'a Classes {
    type Item = &'a Class;
    type IntoIter = std::slice::Iter<'a, Class>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lvm::model::sample;

    fn group(extents: u64, free_extents: u64) -> VolumeGroup {
        sample::group("vg", &[(extents, free_extents)])
    }

    fn class(name: &str, default: bool) -> Class {
        Class { default, ..Class::new(String::from(name), vec!["nvme-*".parse().unwrap(), "spare".parse().unwrap()]) }
    }

    #[test]
    fn the_reserve_is_kept_free_and_never_makes_room_negative() {
        let class = Class { reserve: Portion::Share(500), ..class("fast", false) };
        for (free, largest) in [(101, 95), (7, 1), (6, 0), (3, 0)] {
            assert_eq!(class.largest_extents(&group(101, free)), Ok(largest));
        }
    }

    #[test]
    fn a_class_uses_the_groups_that_one_of_its_patterns_matches() {
        let class = class("fast", false);
        assert!(class.uses("nvme-1") && class.uses("spare"));
        assert!(!class.uses("spare1"));
    }

    #[test]
    fn a_single_class_is_the_default_and_of_several_only_the_declared_one() {
        let default = |classes: &[Class]| Classes(classes.to_vec()).default_class().map(|class| class.name.clone());
        assert_eq!(default(&[class("a", false)]).as_deref(), Some("a"));
        assert_eq!(default(&[class("a", false), class("b", true)]).as_deref(), Some("b"));
        assert_eq!(default(&[class("a", false), class("b", false)]), None);
    }

    #[test]
    fn the_flag_makes_one_class() {
        let classes = Classes::single(&[String::from("vg0"), String::from("vg1")]).unwrap();
        assert_eq!(classes.names(), "default");
        assert!(classes.use_group("vg1") && !classes.use_group("vg2"));
        assert!(Classes::single(&[]).is_err());
        assert!(Classes::single(&[String::from("/dev/vg0")]).is_err());
    }
}
