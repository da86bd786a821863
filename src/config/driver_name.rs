//! The driver's name.

use std::fmt;
use std::str::FromStr;

/// What comes before the name in the topology key.
const TOPOLOGY_PREFIX: &str = "topology.";

/// Longest name, bytes. CSI would take 63, but the topology key's prefix is `topology.` and the name, and may
/// itself have 63 at most.
const LIMIT: usize = 63 - TOPOLOGY_PREFIX.len();

/// A driver's name: a domain in lower case that starts and ends with a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverName(String);

impl DriverName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of the topology segment that names a node of the driver: `topology.<driver>/node`.
pub fn topology_key(driver: &str) -> String {
    format!("{TOPOLOGY_PREFIX}{driver}/node")
}

/// Whether it is a DNS domain in lower case, of whatever length, as Kubernetes wants its objects' names.
pub fn is_lower_case_domain(text: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|byte| is_alphanumeric(byte) || *byte == b'-')
            && bytes.first().is_some_and(is_alphanumeric)
            && bytes.last().is_some_and(is_alphanumeric)
    };
    text.split('.').all(is_label)
}

impl FromStr for DriverName {
    type Err = String;

    /// CSI's own rules, and csi-sanity's, which wants letters at both ends. Kubernetes wants lower case.
    fn from_str(text: &str) -> Result<Self, String> {
        let has_letters_at_ends = text.len() >= 2
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.ends_with(|last: char| last.is_ascii_lowercase());
        if text.len() <= LIMIT && has_letters_at_ends && is_lower_case_domain(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "a domain such as lvm.quarry.storage is needed: lower-case letters, digits, - and ., letters at both ends, \
             2 to {LIMIT} characters"
        ))
    }
}

impl fmt::Display for DriverName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_names() {
        for name in ["lvm.quarry.storage", "ab", "a-1.b2c.x", &format!("{}z", "a".repeat(53))] {
            assert_eq!(name.parse::<DriverName>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn what_csi_csi_sanity_or_kubernetes_would_refuse_is_refused() {
        for name in [
            "",
            "a",
            "Lvm.Quarry",
            "1lvm.storage",
            "lvm.storage1",
            "lvm..storage",
            ".lvm",
            "lvm.",
            "lvm-.storage",
            "lvm.-x",
            "lvm_quarry",
            "lvm/quarry",
            "lvm quarry",
            "lvm.störage",
            &"a".repeat(55),
        ] {
            assert!(name.parse::<DriverName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_longest_name_still_has_a_legal_topology_key() {
        let name: DriverName = "a".repeat(LIMIT).parse().unwrap();
        let key = topology_key(name.as_str());
        assert_eq!(key.split_once('/').map(|(prefix, _)| prefix.len()), Some(63));
        assert_eq!(topology_key("lvm.quarry.storage"), "topology.lvm.quarry.storage/node");
    }
}
