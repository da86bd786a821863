//! Which `StorageClass` a volume belongs to: its tags only know its class, and the cluster that knew more is lost. Pure.

use std::collections::HashMap;

use crate::csi::volume_facts::{Content, VolumeFacts};

/// A `StorageClass` of this driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageClass {
    /// Its name.
    pub name: String,
    /// The class that it names; `None` means the default one.
    pub class: Option<String>,
    /// The file system that it names.
    pub file_system: Option<String>,
    /// The options with which its volumes are mounted.
    pub mount_options: Vec<String>,
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
    /// That of a volume: the chosen one, else the only one that makes such volumes. A wrong guess is worse than none: the
    /// claim would get a new, empty volume.
    pub fn of(&self, facts: &VolumeFacts) -> Result<StorageClass, NoStorageClass> {
        if let Some(chosen) = self.chosen.get(&facts.class).or_else(|| self.chosen.get(&None)) {
            let known = self.known.iter().find(|known| known.name == *chosen).cloned();
            return Ok(known.unwrap_or_else(|| StorageClass { name: chosen.clone(), ..StorageClass::default() }));
        }
        let is_of_class = |known: &&StorageClass| match &known.class {
            Some(_) => known.class == facts.class,
            None => facts.in_default_class,
        };
        let class = facts.class.clone().unwrap_or_default();
        let fits = |known: &&StorageClass| match (&known.file_system, &facts.content) {
            (Some(named), Some(Content::FileSystem(has))) => named == has,
            _ => true,
        };
        let fitting: Vec<&StorageClass> = self.known.iter().filter(is_of_class).filter(fits).collect();
        match fitting.as_slice() {
            [] => Err(NoStorageClass::None { class }),
            [only] => Ok((*only).clone()),
            several => {
                let names: Vec<&str> = several.iter().map(|known| known.name.as_str()).collect();
                Err(NoStorageClass::Several { class, names: names.join(", ") })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, class: Option<&str>, file_system: Option<&str>) -> StorageClass {
        let text = |text: Option<&str>| text.map(str::to_owned);
        StorageClass {
            name: name.to_owned(),
            class: text(class),
            file_system: text(file_system),
            mount_options: Vec::new(),
        }
    }

    fn facts(class: &str, file_system: &str) -> VolumeFacts {
        let content = Some(Content::FileSystem(file_system.to_owned()));
        let in_default_class = class == "standard";
        VolumeFacts { class: Some(class.to_owned()), content, in_default_class, ..VolumeFacts::default() }
    }

    fn name_of(classes: &StorageClasses, facts: &VolumeFacts) -> String {
        classes.of(facts).unwrap().name
    }

    #[test]
    fn one_that_names_no_class_makes_volumes_of_the_default_class_only() {
        let known = vec![known("quarry", None, None), known("quick", Some("fast"), None)];
        let classes = StorageClasses { known, ..StorageClasses::default() };
        assert_eq!(name_of(&classes, &facts("fast", "ext4")), "quick");
        assert_eq!(name_of(&classes, &facts("standard", "ext4")), "quarry");
        for class in ["slow", ""] {
            assert!(matches!(classes.of(&facts(class, "ext4")), Err(NoStorageClass::None { .. })));
        }
        assert!(matches!(StorageClasses::default().of(&facts("fast", "ext4")), Err(NoStorageClass::None { .. })));
    }

    #[test]
    fn one_that_names_the_default_class_and_one_that_names_none_are_two() {
        let known = vec![known("quarry", None, None), known("named", Some("standard"), None)];
        let classes = StorageClasses { known, ..StorageClasses::default() };
        assert!(matches!(classes.of(&facts("standard", "ext4")), Err(NoStorageClass::Several { .. })));
    }

    #[test]
    fn the_file_system_decides_between_two_and_else_a_person() {
        let known = vec![known("a", None, Some("xfs")), known("b", None, Some("ext4")), known("c", None, Some("xfs"))];
        let mut classes = StorageClasses { known, ..StorageClasses::default() };
        assert_eq!(name_of(&classes, &facts("standard", "ext4")), "b");
        let message = classes.of(&facts("standard", "xfs")).unwrap_err().to_string();
        assert!(message.contains("a, c") && message.contains("--storage-class standard=NAME"), "{message}");
        classes.chosen = HashMap::from([(Some(String::from("standard")), String::from("c"))]);
        assert_eq!(name_of(&classes, &facts("standard", "xfs")), "c");
        classes.chosen = HashMap::from([(None, String::from("all"))]);
        assert_eq!(name_of(&classes, &facts("other", "xfs")), "all");
    }
}
