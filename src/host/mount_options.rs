//! Which mount options a volume may have. What is not listed is refused: an option that names a device or a
//! path could reach another volume's data. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::file_system::FileSystem;
use super::linux::mountinfo;
use super::mount_option_table::{BTRFS, Choice, EXT4, FILE_SYSTEM, PER_MOUNT, VALUES, Valued, XFS};
use crate::error::{Error, Result};

/// Mount options that were found to be right for a file system. Two sets are equal when they mean the same:
/// the order, repetitions and options that only name a default make no difference.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// By what they decide ("access time"), the option as it is written.
    per_mount: BTreeMap<&'static str, String>,
    file_system: BTreeMap<&'static str, String>,
}

impl MountOptions {
    /// Reads options as mount(8) takes them after `-o`, each string one or several of them with commas in
    /// between; commas in double quotes do not count. Of contradicting options the last one counts.
    /// `field` is named in the error.
    pub fn parse<S: AsRef<str>>(field: &str, file_system: FileSystem, options: &[S]) -> Result<Self> {
        let mut parsed = Self::default();
        for text in options.iter().map(AsRef::as_ref) {
            if text.matches('"').count() % 2 == 1 {
                return Err(Error::invalid(field, format!("a double quote is missing in {text:?}")));
            }
            for option in mountinfo::split(text) {
                parsed.add(file_system, option).map_err(|problem| Error::invalid(field, problem))?;
            }
        }
        Ok(parsed)
    }

    fn add(&mut self, file_system: FileSystem, option: &str) -> std::result::Result<(), String> {
        if option == "defaults" {
            return Ok(());
        }
        if let Some(choice) = PER_MOUNT.iter().find(|choice| choice.has(option)) {
            choice.put(&mut self.per_mount, option);
            return Ok(());
        }
        let (choices, values) = tables(file_system);
        if let Some(choice) = FILE_SYSTEM.iter().chain(choices).find(|choice| choice.has(option)) {
            choice.put(&mut self.file_system, option);
            return Ok(());
        }
        let name = option.split_once('=').map_or(option, |(name, _)| name);
        let Some(valued) = VALUES.iter().chain(values).find(|valued| valued.name == name) else {
            return Err(format!("mount option {option:?} is not allowed for {file_system}; {}", allowed(file_system)));
        };
        match option.split_once('=') {
            None if valued.bare => {}
            Some((_, value)) if valued.shape.fits(value) => {}
            _ => return Err(format!("mount option {option:?}: {name}= takes {}", valued.shape)),
        }
        self.file_system.insert(valued.name, option.to_owned());
        Ok(())
    }

    /// Adds `ro`.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.per_mount.insert("access", "ro".into());
        self
    }

    /// Adds `nouuid`: xfs mounts no copy of a file system beside the original without it.
    #[must_use]
    pub fn copied_xfs(mut self) -> Self {
        self.file_system.insert("duplicates", "nouuid".into());
        self
    }

    /// Whether nothing can be written.
    pub fn is_read_only(&self) -> bool {
        self.per_mount.contains_key("access")
    }

    /// All options, one element each, for the mount of the file system.
    pub fn all(&self) -> Vec<String> {
        self.per_mount.values().chain(self.file_system.values()).cloned().collect()
    }

    /// Those that a bind mount can have on its own: `ro`, `nosuid`, `noatime`… The others are the file
    /// system's and hold for all its mounts.
    pub fn per_mount(&self) -> Vec<String> {
        self.per_mount.values().cloned().collect()
    }

    /// Whether the options that hold for all mounts of the file system are the same: what a volume that is
    /// mounted already cannot be given on another mount.
    pub fn same_file_system_options(&self, other: &Self) -> bool {
        self.file_system == other.file_system
    }
}

impl Choice {
    fn has(&self, option: &str) -> bool {
        self.default.contains(&option) || self.others.contains(&option)
    }

    fn put(&self, options: &mut BTreeMap<&'static str, String>, option: &str) {
        match options.entry(self.decides) {
            Entry::Occupied(entry) if self.default.contains(&option) => drop(entry.remove()),
            _ if self.default.contains(&option) => {}
            Entry::Occupied(mut entry) => drop(entry.insert(option.to_owned())),
            Entry::Vacant(entry) => drop(entry.insert(option.to_owned())),
        }
    }
}

fn tables(file_system: FileSystem) -> (&'static [Choice], &'static [Valued]) {
    match file_system {
        FileSystem::Ext4 => EXT4,
        FileSystem::Xfs => XFS,
        FileSystem::Btrfs => BTRFS,
    }
}

fn allowed(file_system: FileSystem) -> String {
    let (choices, values) = tables(file_system);
    let choices = PER_MOUNT.iter().chain(FILE_SYSTEM).chain(choices);
    let mut names: Vec<String> = choices
        .flat_map(|choice| choice.default.iter().chain(choice.others))
        .map(|name| (*name).to_owned())
        .chain(VALUES.iter().chain(values).map(|valued| format!("{}=", valued.name)))
        .collect();
    names.sort_unstable();
    format!("allowed are {}", names.join(", "))
}

#[cfg(test)]
#[path = "mount_options_tests.rs"]
mod tests;
