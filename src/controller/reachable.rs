//! The volumes of the nodes that can be reached, and which nodes those are.
//!
//! Callers of CSI get the list of all nodes or none (see `gather`). Two kinds of callers do better with a part, for they
//! know what is missing: the controller itself, and the commands that tell a person. The latter say in the metadata of the
//! call what they want, and get an entry without a volume's id for each node. Metadata has no room for thousands of nodes.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Response, Status};

use super::forward::{Client, Deadline};
use super::gather::{Page, page};
use super::orphans::Listed;
use super::router::{AT_ONCE, Router};
use crate::csi::v1;
use crate::csi::v1::list_volumes_response::Entry;
use crate::error::Result;
use crate::lvm::volume_id::VolumeId;

const REACHABLE_ONLY: &str = "quarry-reachable-only";
/// In the context of an entry that stands for a node: its topology value, and why it did not answer.
const NODE: &str = "node";
const SILENT: &str = "silent";
/// How long one node may take for one question.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// What is on the nodes that answered, and which nodes were asked.
#[derive(Debug, Default)]
pub struct Reachable {
    /// The volumes.
    pub volumes: Vec<Listed>,
    /// The nodes by topology value, and why those did not answer that did not.
    pub nodes: BTreeMap<String, Option<String>>,
}

impl Reachable {
    /// The nodes that did not answer, and why.
    pub fn silent(&self) -> impl Iterator<Item = (&str, &str)> {
        self.nodes.iter().filter_map(|(node, why)| Some((node.as_str(), why.as_deref()?)))
    }

    /// How many volumes each node has that answered.
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let answered = self.nodes.iter().filter(|(_, why)| why.is_none());
        let mut counts: BTreeMap<&str, usize> = answered.map(|(node, _)| (node.as_str(), 0)).collect();
        for volume in &self.volumes {
            *counts.entry(&volume.id.node).or_default() += 1;
        }
        counts
    }

    /// Takes a page of the list.
    pub fn take(&mut self, entries: Vec<Entry>) {
        for volume in entries.into_iter().filter_map(|entry| entry.volume) {
            match volume.volume_context.get(NODE) {
                Some(node) if volume.volume_id.is_empty() => {
                    let why = volume.volume_context.get(SILENT).cloned();
                    // One that fell silent between two pages did not tell all.
                    let known = self.nodes.entry(node.clone()).or_default();
                    *known = known.take().or(why);
                }
                _ => self.volumes.extend(Listed::of(&volume)),
            }
        }
    }

    /// Without what silent nodes told before they fell silent: half a list of a node is none.
    #[must_use]
    pub fn complete(mut self) -> Self {
        let silent: HashSet<String> = self.silent().map(|(node, _)| node.to_owned()).collect();
        self.volumes.retain(|volume| !silent.contains(&volume.id.node));
        self
    }
}

/// Asks for a part of the list where the whole cannot be had.
pub fn ask_for_it(request: &mut Request<v1::ListVolumesRequest>) {
    request.metadata_mut().insert(REACHABLE_ONLY, AsciiMetadataValue::from_static("true"));
}

/// Whether somebody asked so.
pub fn is_wanted(metadata: &MetadataMap) -> bool {
    metadata.contains_key(REACHABLE_ONLY)
}

impl Router {
    /// The volumes of the nodes that can be reached. That no node is known is an error also here.
    pub async fn reachable_volumes(&self) -> Result<Reachable> {
        let asking = stream::iter(self.nodes()?).map(|node| async move {
            let answer = self.volumes_of(&node).await;
            (node, answer)
        });
        let (mut reachable, mut answers) = (Reachable::default(), asking.buffer_unordered(AT_ONCE));
        while let Some((node, answer)) = answers.next().await {
            let why = match answer {
                Ok(volumes) => {
                    reachable.volumes.extend(volumes);
                    None
                }
                Err(status) => Some(status.message().to_owned()),
            };
            reachable.nodes.insert(node, why);
        }
        Ok(reachable)
    }

    /// The volumes of one node.
    async fn volumes_of(&self, node: &str) -> Result<Vec<Listed>, Status> {
        let (mut volumes, mut token) = (Vec::new(), String::new());
        loop {
            let page = self.page_of(node, 0, token).await?;
            volumes.extend(page.entries.iter().filter_map(|entry| Listed::of(entry.volume.as_ref()?)));
            if page.next_token.is_empty() {
                return Ok(volumes);
            }
            token = page.next_token;
        }
    }

    /// A page of the volumes of one node.
    async fn page_of(&self, node: &str, max_entries: i32, starting_token: String) -> Result<Page<Entry>, Status> {
        let request = v1::ListVolumesRequest { max_entries, starting_token };
        let call = |mut client: Client, request| async move { client.list_volumes(request).await };
        let mut answer = self.call(node, Deadline::after(PATIENCE), request, call).await?;
        answer.entries.retain(|entry| is_of(entry, node));
        Ok(Page { entries: answer.entries, next_token: answer.next_token })
    }

    /// A page of what can be reached, with an entry for each node.
    pub(super) async fn list_reachable(
        &self,
        request: v1::ListVolumesRequest,
    ) -> Result<Response<v1::ListVolumesResponse>, Status> {
        let ask = |node: String, max_entries, token| async move {
            let (mut page, why) = match self.page_of(&node, max_entries, token).await {
                Ok(page) => (page, None),
                Err(status) => (Page { entries: Vec::new(), next_token: String::new() }, Some(status)),
            };
            page.entries.push(entry_of_node(node, why.as_ref().map(Status::message)));
            Ok(page)
        };
        let Page { entries, next_token } =
            page(self.nodes()?, request.max_entries, &request.starting_token, ask).await?;
        Ok(Response::new(v1::ListVolumesResponse { entries, next_token }))
    }
}

/// Whether a volume is of that node: none has a say in what is on others.
fn is_of(entry: &Entry, node: &str) -> bool {
    let id = entry.volume.as_ref().and_then(|volume| VolumeId::parse(&volume.volume_id));
    id.is_some_and(|id| id.node == node)
}

fn entry_of_node(node: String, silent: Option<&str>) -> Entry {
    let context = [(NODE, Some(node)), (SILENT, silent.map(str::to_owned))];
    let volume_context = context.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    Entry { volume: Some(v1::Volume { volume_context, ..v1::Volume::default() }), status: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_volumes_of_others_does_not_count() {
        for (volume_id, counts) in [("n1/a", true), ("n2/a", false), ("n1", false), ("", false)] {
            let volume = v1::Volume { volume_id: volume_id.to_owned(), ..v1::Volume::default() };
            assert_eq!(is_of(&Entry { volume: Some(volume), status: None }, "n1"), counts, "{volume_id}");
        }
        assert!(!is_of(&entry_of_node(String::from("n1"), None), "n1"));
    }

    #[test]
    fn a_node_that_falls_silent_between_two_pages_is_silent_and_told_nothing() {
        let volume = |volume_id: &str| Entry {
            volume: Some(v1::Volume { volume_id: volume_id.to_owned(), ..v1::Volume::default() }),
            status: None,
        };
        let of_node = |why| entry_of_node(String::from("n1"), why);
        let other = || entry_of_node(String::from("n2"), None);
        for pages in [
            [vec![volume("n1/a"), of_node(None)], vec![of_node(Some("away")), volume("n2/a"), other()]],
            [vec![of_node(Some("away"))], vec![volume("n1/a"), of_node(None), volume("n2/a"), other()]],
        ] {
            let mut reachable = Reachable::default();
            for page in pages {
                reachable.take(page);
            }
            let reachable = reachable.complete();
            assert_eq!(reachable.silent().collect::<Vec<_>>(), [("n1", "away")]);
            assert_eq!(reachable.counts(), BTreeMap::from([("n2", 1)]));
        }
    }
}
