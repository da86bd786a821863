//! Which `StorageClass` a volume belongs to: its tags only know its class, and the cluster that knew more is lost. Pure.

use std::collections::HashMap;

use crate::csi::volume_facts::{Content, VolumeFacts};

/// A `StorageClass` of this driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageClass {
    /// Its name.
    pub name: String,
    /// The class that it names; `None` means the default one.
    pub class: Option<String>,
    /// The file system that it names.
    pub file_system: Option<String>,
}

/// What may be chosen from.
#[derive(Debug, Clone, Default)]
pub struct StorageClasses {
    /// What a person chose: by class, and for all others.
    pub chosen: HashMap<Option<String>, String>,
    /// Those of this driver in the cluster.
    pub known: Vec<StorageClass>,
}

/// It cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoStorageClass {
    /// None that exists fits.
    #[error(
        "no StorageClass of the driver makes volumes of class {class:?}; name one with --storage-class {class}=NAME"
    )]
    None {
        /// The volumes' class.
        class: String,
    },
    /// Several fit.
    #[error("volumes of class {class:?} may belong to {names}; say which with --storage-class {class}=NAME")]
    Several {
        /// The volumes' class.
        class: String,
        /// The names of all that fit.
        names: String,
    },
}

impl StorageClasses {
    /// That of a volume: the chosen one, else the only one that names its class, else the only one that names none.
    pub fn of(&self, facts: &VolumeFacts) -> Result<String, NoStorageClass> {
        if let Some(chosen) = self.chosen.get(&facts.class).or_else(|| self.chosen.get(&None)) {
            return Ok(chosen.clone());
        }
        let names_class: Vec<&StorageClass> =
            self.known.iter().filter(|known| known.class.is_some() && known.class == facts.class).collect();
        let fitting = match names_class.as_slice() {
            [] => self.known.iter().filter(|known| known.class.is_none()).collect(),
            _ => names_class,
        };
        let class = facts.class.clone().unwrap_or_default();
        let makes = |known: &&&StorageClass| match (&known.file_system, &facts.content) {
            (Some(named), Some(Content::FileSystem(has))) => named == has,
            _ => true,
        };
        let names: Vec<&str> = fitting.iter().filter(makes).map(|known| known.name.as_str()).collect();
        match names.as_slice() {
            [] => Err(NoStorageClass::None { class }),
            [only] => Ok((*only).to_owned()),
            _ => Err(NoStorageClass::Several { class, names: names.join(", ") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, class: Option<&str>, file_system: Option<&str>) -> StorageClass {
        let text = |text: Option<&str>| text.map(str::to_owned);
        StorageClass { name: name.to_owned(), class: text(class), file_system: text(file_system) }
    }

    fn facts(class: &str, file_system: &str) -> VolumeFacts {
        let content = Some(Content::FileSystem(file_system.to_owned()));
        VolumeFacts { class: Some(class.to_owned()), content, ..VolumeFacts::default() }
    }

    #[test]
    fn the_one_that_names_the_class_is_it_else_the_one_that_names_none() {
        let known = vec![known("quarry", None, None), known("quick", Some("fast"), None)];
        let classes = StorageClasses { known, ..StorageClasses::default() };
        assert_eq!(classes.of(&facts("fast", "ext4")).unwrap(), "quick");
        assert_eq!(classes.of(&facts("standard", "ext4")).unwrap(), "quarry");
        assert!(matches!(StorageClasses::default().of(&facts("fast", "ext4")), Err(NoStorageClass::None { .. })));
    }

    #[test]
    fn the_file_system_decides_between_two_and_else_a_person() {
        let known = vec![known("a", None, Some("xfs")), known("b", None, Some("ext4")), known("c", None, Some("xfs"))];
        let mut classes = StorageClasses { known, ..StorageClasses::default() };
        assert_eq!(classes.of(&facts("standard", "ext4")).unwrap(), "b");
        let message = classes.of(&facts("standard", "xfs")).unwrap_err().to_string();
        assert!(message.contains("a, c") && message.contains("--storage-class standard=NAME"), "{message}");
        classes.chosen = HashMap::from([(Some(String::from("standard")), String::from("c"))]);
        assert_eq!(classes.of(&facts("standard", "xfs")).unwrap(), "c");
        classes.chosen = HashMap::from([(None, String::from("all"))]);
        assert_eq!(classes.of(&facts("other", "xfs")).unwrap(), "all");
    }
}
