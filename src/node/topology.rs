//! Where this node is, in the orchestrator's terms.

use std::collections::HashMap;

use crate::csi::v1;
use crate::node::Node;

impl Node {
    /// This node's only topology segment.
    pub(super) fn topology(&self) -> v1::Topology {
        v1::Topology { segments: HashMap::from([(self.topology_key(), self.identity.topology.clone())]) }
    }

    fn topology_key(&self) -> String {
        format!("topology.{}/node", self.identity.driver)
    }

    /// Whether segments mean this node; those of other keys do not matter.
    pub(super) fn is_here(&self, segments: &HashMap<String, String>) -> bool {
        segments.get(&self.topology_key()).is_none_or(|value| *value == self.identity.topology)
    }
}
