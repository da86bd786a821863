//! The nodes that may make a volume, in which order.

use crate::csi::v1::{GetCapacityResponse, TopologyRequirement};

/// Where a volume may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// On any node.
    Anywhere,
    /// On these, by their topology values, the preferred ones first.
    Nodes(Vec<String>),
}

/// What a request wants. Topologies that say nothing of our key are fulfilled by every node.
pub fn wanted(requirement: Option<&TopologyRequirement>, key: &str) -> Wanted {
    let Some(requirement) = requirement else { return Wanted::Anywhere };
    let mut nodes: Vec<String> = Vec::new();
    for topology in requirement.preferred.iter().chain(&requirement.requisite) {
        match topology.segments.get(key) {
            None => return Wanted::Anywhere,
            Some(node) if nodes.contains(node) => {}
            Some(node) => nodes.push(node.clone()),
        }
    }
    if nodes.is_empty() { Wanted::Anywhere } else { Wanted::Nodes(nodes) }
}

/// The nodes by the room that they have, the most first; equal ones by their names, so that two controllers agree.
pub fn by_room(mut answers: Vec<(String, GetCapacityResponse)>) -> Vec<String> {
    let room = |answer: &GetCapacityResponse| answer.maximum_volume_size.unwrap_or(answer.available_capacity);
    answers.sort_by(|(one, has), (other, other_has)| room(other_has).cmp(&room(has)).then_with(|| one.cmp(other)));
    answers.into_iter().map(|(node, _)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::v1::Topology;

    const KEY: &str = "topology.lvm.quarry.storage/node";

    fn on(node: &str) -> Topology {
        Topology { segments: [(String::from(KEY), node.to_owned())].into() }
    }

    fn nodes(names: &[&str]) -> Wanted {
        Wanted::Nodes(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn preferred_nodes_come_first_and_each_once() {
        let requirement = TopologyRequirement {
            requisite: vec![on("a"), on("b"), on("c")],
            preferred: vec![on("c"), on("a"), on("b")],
        };
        assert_eq!(wanted(Some(&requirement), KEY), nodes(&["c", "a", "b"]));
        let only = TopologyRequirement { requisite: vec![on("a")], preferred: Vec::new() };
        assert_eq!(wanted(Some(&only), KEY), nodes(&["a"]));
    }

    #[test]
    fn without_our_key_every_node_will_do() {
        assert_eq!(wanted(None, KEY), Wanted::Anywhere);
        assert_eq!(wanted(Some(&TopologyRequirement::default()), KEY), Wanted::Anywhere);
        let zone = Topology { segments: [(String::from("zone"), String::from("z"))].into() };
        let requirement = TopologyRequirement { requisite: vec![zone], preferred: Vec::new() };
        assert_eq!(wanted(Some(&requirement), KEY), Wanted::Anywhere);
    }

    #[test]
    fn the_node_with_the_most_room_comes_first() {
        let has = |largest: i64| GetCapacityResponse { maximum_volume_size: Some(largest), ..Default::default() };
        let answers = [("b", 1), ("a", 1), ("d", 0), ("c", 9)].map(|(node, largest)| (node.to_owned(), has(largest)));
        assert_eq!(by_room(answers.to_vec()), ["c", "a", "b", "d"]);
    }
}
