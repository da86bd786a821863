//! Volume ids: `<node>/<logical volume>`, the node as its topology value writes it.

use std::fmt;

use crate::lvm::names::is_legal_logical_volume_name;

/// Longest node part, bytes: the limit of a topology value.
pub const NODE_LIMIT: usize = 63;

/// Longest id, bytes (CSI specification, size limits).
const ID_LIMIT: usize = 128;

/// What a volume id names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VolumeId {
    /// The node's topology value.
    pub node: String,
    /// The logical volume's name; the volume group is looked up, as a volume may move between groups.
    pub logical_volume: String,
}

impl VolumeId {
    /// The parts of an id that this driver can have given out; `None` for everything else. A volume may bear a longer
    /// name than those made here: an administrator can rename it.
    pub fn parse(text: &str) -> Option<Self> {
        let (node, logical_volume) = text.split_once('/')?;
        let is_ours = is_topology_value(node) && text.len() <= ID_LIMIT && is_legal_logical_volume_name(logical_volume);
        is_ours.then(|| Self { node: node.to_owned(), logical_volume: logical_volume.to_owned() })
    }

    /// The id that these parts make.
    pub fn text(node: &str, logical_volume: &str) -> String {
        // Lists are made of these: one allocation each.
        [node, "/", logical_volume].concat()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&Self::text(&self.node, &self.logical_volume))
    }
}

/// Whether a text can be a topology value, which in Kubernetes is the value of a label: 1 to 63 of
/// `A-Za-z0-9-_.`, a letter or digit at both ends.
pub fn is_topology_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    bytes.len() <= NODE_LIMIT
        && bytes.iter().all(is_legal)
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lvm::names::LOGICAL_VOLUME_NAME_LIMIT;

    #[test]
    fn the_longest_id_keeps_to_128_bytes() {
        let id = VolumeId { node: "n".repeat(NODE_LIMIT), logical_volume: "l".repeat(LOGICAL_VOLUME_NAME_LIMIT) };
        assert!(id.to_string().len() <= 128);
        assert_eq!(VolumeId::parse(&id.to_string()), Some(id));
    }

    #[test]
    fn ids_that_were_never_given_out_are_no_ids() {
        for text in [
            "",
            "/",
            "node",
            "node/",
            "/volume",
            "node/a/b",
            "node//a",
            "../volume",
            "node/..",
            "node/.",
            "..",
            "../..",
            "node/ volume",
            "node /volume",
            " node/volume",
            "node/volume ",
            "node/vol\nume",
            "node/-a",
            "-node/a",
            "node./a",
            "node/snapshot-1",
            "node/a_tdata",
            "nöde/a",
            "node/ä",
            "node/a\0",
        ] {
            assert_eq!(VolumeId::parse(text), None, "{text:?}");
        }
        assert_eq!(VolumeId::parse(&format!("{}/a", "n".repeat(64))), None);
        assert_eq!(VolumeId::parse(&format!("n/{}", "l".repeat(127))), None);
    }

    proptest! {
        #[test]
        fn what_reads_as_an_id_is_written_the_same(text in "[a-z0-9./_-]{0,40}|\\PC{0,20}") {
            if let Some(id) = VolumeId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn ids_read_back_the_same(node in "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", name in "\\PC{1,128}") {
            let id = VolumeId { node, logical_volume: crate::lvm::names::logical_volume_name(&name) };
            prop_assert_eq!(VolumeId::parse(&id.to_string()), Some(id));
        }
    }
}
