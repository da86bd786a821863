//! What a node's list of volumes tells of each beyond id and size, as its `volume_context`: all that is needed to judge
//! a volume that nobody names, and to write its `PersistentVolume` again.
//!
//! Only `ListVolumes` has it. `CreateVolume` answers with an empty context, so that nothing of this reaches a
//! `PersistentVolume`, where it would grow old.

use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::lvm::tags::Claim;

const NAME: &str = "name";
const CLASS: &str = "class";
const CLAIM_NAMESPACE: &str = "claimNamespace";
const CLAIM_NAME: &str = "claimName";
const CREATED: &str = "created";
const CONTENT: &str = "content";
const NEVER_USED: &str = "neverUsed";
const SINGLE_USER: &str = "singleUser";
const UUID: &str = "uuid";
const USABLE: &str = "usable";
const IN_DEFAULT_CLASS: &str = "inDefaultClass";
const DRIVER: &str = "driver";
const YES: &str = "true";
const NO: &str = "false";
/// The content of a raw block volume.
const BLOCK: &str = "block";

/// What is on a volume that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It is its user's as a block device.
    Block,
    /// A file system of that type.
    FileSystem(String),
}

/// What is known of a volume. A node of another version may tell less.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeFacts {
    /// The name that the CSI request gave it.
    pub name: Option<String>,
    /// Its class.
    pub class: Option<String>,
    /// The claim it was made for.
    pub claim: Option<Claim>,
    /// When it was made, seconds since 1970.
    pub created: Option<u64>,
    /// What is on it; unknown as long as it was not used.
    pub content: Option<Content>,
    /// Whether it is known that nobody ever had it: it is empty.
    pub never_used: bool,
    /// Whether only one user at a time may have it.
    pub single_user: bool,
    /// The UUID of its logical volume. Nodes that share disks list one logical volume under several ids.
    pub uuid: Option<String>,
    /// Whether its volume group is that node's to use: it may see others, too.
    pub usable: Option<bool>,
    /// Whether its class is the default one on that node.
    pub in_default_class: bool,
    /// The driver that made it.
    pub driver: Option<String>,
}

impl VolumeFacts {
    /// As a `volume_context`.
    pub fn to_context(&self) -> HashMap<String, String> {
        let yes = |is_so: bool| is_so.then(|| String::from(YES));
        let content = self.content.as_ref().map(|content| match content {
            Content::Block => String::from(BLOCK),
            Content::FileSystem(word) => word.clone(),
        });
        let entries = [
            (NAME, self.name.clone()),
            (CLASS, self.class.clone()),
            (CLAIM_NAMESPACE, self.claim.as_ref().map(|claim| claim.namespace.clone())),
            (CLAIM_NAME, self.claim.as_ref().map(|claim| claim.name.clone())),
            (CREATED, self.created.map(|seconds| seconds.to_string())),
            (CONTENT, content),
            (NEVER_USED, yes(self.never_used)),
            (SINGLE_USER, yes(self.single_user)),
            (UUID, self.uuid.clone()),
            (USABLE, self.usable.map(|usable| String::from(if usable { YES } else { NO }))),
            (IN_DEFAULT_CLASS, yes(self.in_default_class)),
            (DRIVER, self.driver.clone()),
        ];
        entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// What a `volume_context` says; other keys are passed over.
    pub fn of_context(context: &HashMap<String, String, impl BuildHasher>) -> Self {
        let text = |key: &str| context.get(key).cloned();
        let is_so = |key: &str| context.get(key).is_some_and(|value| value == YES);
        let claim = text(CLAIM_NAMESPACE).zip(text(CLAIM_NAME));
        Self {
            name: text(NAME),
            class: text(CLASS),
            claim: claim.map(|(namespace, name)| Claim { namespace, name }),
            created: text(CREATED).and_then(|seconds| seconds.parse().ok()),
            content: text(CONTENT).map(|word| if word == BLOCK { Content::Block } else { Content::FileSystem(word) }),
            never_used: is_so(NEVER_USED),
            single_user: is_so(SINGLE_USER),
            uuid: text(UUID),
            usable: text(USABLE).and_then(|word| word.parse().ok()),
            in_default_class: is_so(IN_DEFAULT_CLASS),
            driver: text(DRIVER),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts() -> impl Strategy<Value = VolumeFacts> {
        let text = || proptest::option::of("\\PC{0,20}");
        let claim = proptest::option::of(("[a-z]{1,9}", "[a-z]{1,9}"));
        let content =
            proptest::option::of(prop_oneof![Just(Content::Block), "(ext4|xfs|btrfs)".prop_map(Content::FileSystem)]);
        let of_lvm = (text(), any::<Option<bool>>(), text());
        (text(), text(), claim, any::<Option<u64>>(), content, any::<[bool; 3]>(), of_lvm).prop_map(
            |(name, class, claim, created, content, flags, (uuid, usable, driver))| VolumeFacts {
                name,
                class,
                claim: claim.map(|(namespace, name)| Claim { namespace, name }),
                created,
                content,
                never_used: flags[0],
                single_user: flags[1],
                in_default_class: flags[2],
                uuid,
                usable,
                driver,
            },
        )
    }

    proptest! {
        #[test]
        fn they_read_back_the_same(facts in facts()) {
            prop_assert_eq!(VolumeFacts::of_context(&facts.to_context()), facts);
        }
    }

    #[test]
    fn a_node_that_tells_nothing_makes_no_volume_unused() {
        assert_eq!(VolumeFacts::of_context(&HashMap::new()), VolumeFacts::default());
    }
}
