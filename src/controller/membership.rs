//! Which nodes there are and where: named on the command line, in a file, or by Kubernetes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::node_address::NodeAddress;
use crate::config::node_name::topology_value;

/// The nodes as they are known now.
pub type Membership = watch::Receiver<Arc<Nodes>>;

/// The nodes by their topology values; by default not known yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    members: BTreeMap<String, Member>,
    /// Whether the nodes are known at all; at the start it may take a moment.
    is_known: bool,
    /// Whether a node that is not among them does not exist any more. A list by hand may be short of one.
    is_complete: bool,
    /// The topology values of nodes that exist without the driver.
    elsewhere: BTreeSet<String>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, for people.
    pub name: String,
    /// `HOST:PORT` of its `quarry node`; `None` while that does not run.
    pub address: Option<String>,
}

impl Nodes {
    /// Those that somebody named; there may be others.
    pub fn named(members: impl IntoIterator<Item = Member>) -> Self {
        let members = members.into_iter().map(|member| (topology_value(&member.name), member));
        Self { members: members.collect(), is_known: true, ..Self::default() }
    }

    /// All that there are: those with the driver, and the names of those without.
    pub fn all(members: impl IntoIterator<Item = Member>, elsewhere: impl IntoIterator<Item = String>) -> Self {
        let elsewhere = elsewhere.into_iter().map(|name| topology_value(&name));
        Self { elsewhere: elsewhere.collect(), is_complete: true, ..Self::named(members) }
    }

    /// The node of that topology value.
    pub fn get(&self, node: &str) -> Option<&Member> {
        self.members.get(node)
    }

    /// Whether there is such a node, with the driver or without.
    pub fn exists(&self, node: &str) -> bool {
        self.members.contains_key(node) || self.elsewhere.contains(node)
    }

    /// All of them, by topology value.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    /// Whether they are known. As long as they are not, that a node is not among them says nothing.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether a node that is not among them does not exist any more.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Nodes that never change.
pub fn fixed(nodes: &[NodeAddress]) -> Result<Membership, String> {
    Ok(watch::channel(Arc::new(distinct(nodes)?)).1)
}

/// The nodes of a file, one a line; empty lines and lines that begin with `#` do not count. It is read again when it
/// changes; a bad one is refused as a whole, and the nodes that were known stay.
pub fn file(path: PathBuf, every: Duration, stop: CancellationToken) -> Result<Membership, String> {
    let nodes = read(&path)?;
    let (sender, receiver) = watch::channel(Arc::new(nodes));
    tokio::spawn(async move {
        let mut problem_before = None;
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            let path_now = path.clone();
            let read = tokio::task::spawn_blocking(move || read(&path_now)).await;
            match read.unwrap_or_else(|failure| Err(failure.to_string())) {
                Ok(nodes) => {
                    problem_before = None;
                    sender.send_if_modified(|known| {
                        let is_new = **known != nodes;
                        if is_new {
                            tracing::info!(file = %path.display(), nodes = nodes.len(), "the nodes have changed");
                            *known = Arc::new(nodes);
                        }
                        is_new
                    });
                }
                Err(problem) if problem_before.as_ref() == Some(&problem) => {}
                Err(problem) => {
                    tracing::error!(problem, "the file of nodes is refused; the nodes known so far stay");
                    problem_before = Some(problem);
                }
            }
        }
    });
    Ok(receiver)
}

fn read(path: &Path) -> Result<Nodes, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|problem| format!("{}: {problem}", path.display()))
}

fn parse(text: &str) -> Result<Nodes, String> {
    let mut nodes = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            nodes.push(line.parse().map_err(|problem| format!("line {number}: {problem}"))?);
        }
    }
    if nodes.is_empty() {
        // A file that is being written is empty for a moment.
        return Err(String::from("names no node; write a node a line, NAME=HOST:PORT"));
    }
    distinct(&nodes)
}

fn distinct(nodes: &[NodeAddress]) -> Result<Nodes, String> {
    let member = |node: &NodeAddress| Member { name: node.name.clone(), address: Some(node.address.clone()) };
    let known = Nodes::named(nodes.iter().map(member));
    if known.len() == nodes.len() {
        return Ok(known);
    }
    let is_double = |node: &&NodeAddress| {
        nodes.iter().filter(|other| topology_value(&other.name) == topology_value(&node.name)).count() > 1
    };
    let double = nodes.iter().find(is_double).map(|node| node.name.as_str()).unwrap_or_default();
    Err(format!("node {double:?} is named twice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_node_a_line() {
        let nodes = parse("# the rack\nb=10.0.0.2:1\n\n  a=10.0.0.1:1 \n").unwrap();
        let names: Vec<_> = nodes.iter().map(|(_, member)| member.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(parse("# none\n").unwrap_err().contains("names no node"));
        assert!(parse("a=b:1\nnonsense").unwrap_err().starts_with("line 2: "));
        assert_eq!(parse("a=b:1\na=c:1"), Err(String::from("node \"a\" is named twice")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_counts_and_a_bad_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes");
        std::fs::write(&path, "a=b:1").unwrap();
        let stop = CancellationToken::new();
        let mut membership = file(path.clone(), Duration::from_secs(1), stop.clone()).unwrap();
        std::fs::write(&path, "nonsense").unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!membership.has_changed().unwrap() && membership.borrow().len() == 1);
        std::fs::write(&path, "a=b:1\nc=d:1").unwrap();
        membership.changed().await.unwrap();
        assert_eq!(membership.borrow_and_update().len(), 2);
        assert!(file(folder.path().join("none"), Duration::from_secs(1), stop).is_err());
    }
}
