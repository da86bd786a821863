//! Where this node is, in the orchestrator's terms.

use std::collections::HashMap;

use crate::config::driver_name::topology_key;
use crate::csi::v1;
use crate::node::Node;

impl Node {
    /// This node's only topology segment.
    pub(super) fn topology(&self) -> v1::Topology {
        v1::Topology {
            segments: HashMap::from([(topology_key(&self.identity.driver), self.identity.topology.clone())]),
        }
    }

    /// Whether segments mean this node; those of other keys do not matter.
    pub(super) fn is_here(&self, segments: &HashMap<String, String>) -> bool {
        segments.get(&topology_key(&self.identity.driver)).is_none_or(|value| *value == self.identity.topology)
    }
}
