//! The node's name, and the topology value made of it.

use std::io;

use sha2::{Digest, Sha256};

use crate::lvm::names::hexadecimal;
use crate::lvm::volume_id::{NODE_LIMIT, is_topology_value};

/// Hexadecimal digits of the hash in a derived value.
const HASH_DIGITS: usize = 16;

/// The name of this machine, for when no flag says otherwise.
pub fn host_name() -> io::Result<String> {
    Ok(nix::sys::utsname::uname()?.nodename().to_string_lossy().into_owned())
}

/// The topology value of a node: its name where that is legal, else a readable part and a hash of the whole.
/// Always the same for the same name; volume ids begin with it.
pub fn topology_value(node_name: &str) -> String {
    if is_topology_value(node_name) {
        return node_name.to_owned();
    }
    let hash = hexadecimal(&Sha256::digest(node_name.as_bytes())[..HASH_DIGITS / 2]);
    let readable: String = node_name
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || character == '.' { character } else { '-' })
        .skip_while(|character| !character.is_ascii_alphanumeric())
        .take(NODE_LIMIT - 1 - HASH_DIGITS)
        .collect();
    let readable = readable.trim_end_matches(['-', '.']);
    if readable.is_empty() { format!("node-{hash}") } else { format!("{readable}-{hash}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_legal_name_is_its_own_value() {
        for name in ["node-1", "a", "worker_7.example.org", &"n".repeat(63)] {
            assert_eq!(topology_value(name), name);
        }
    }

    #[test]
    fn other_names_keep_a_readable_part() {
        for (name, readable) in [
            ("-edge", "edge"),
            ("knoten ä", "knoten"),
            ("", "node"),
            ("日本", "node"),
            (&"n".repeat(64), &"n".repeat(46)),
        ] {
            let value = topology_value(name);
            let (start, hash) = value.rsplit_once('-').unwrap();
            assert_eq!((start, hash.len()), (readable, 16), "{name}");
        }
    }

    #[test]
    fn a_derived_value_never_changes_between_versions() {
        // It is part of volume ids that are stored in the cluster.
        assert_eq!(topology_value("knoten ä"), "knoten-333df0f013c1a914");
    }

    #[test]
    fn this_machine_has_a_name() {
        assert!(!host_name().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_name_gives_a_legal_value(name: String) {
            prop_assert!(is_topology_value(&topology_value(&name)));
        }

        #[test]
        fn long_names_that_share_their_beginning_stay_apart(end in "[a-z]{1,20}", other in "[a-z]{1,20}") {
            let start = "n".repeat(60);
            let same = topology_value(&format!("{start}{end}")) == topology_value(&format!("{start}{other}"));
            prop_assert_eq!(same, end == other);
        }
    }
}
