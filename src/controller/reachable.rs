//! The volumes of the nodes that can be reached.
//!
//! Callers of CSI get the list of all nodes or none (see `gather`). Two kinds of callers do better with a part, for they
//! know what is missing: the controller itself, and a person who asks for it and is told. The latter's command says so
//! in the metadata of the call and gets the missing nodes in that of the answer.

use futures_util::{StreamExt, stream};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Response, Status};

use super::forward::{Client, Deadline};
use super::orphans::Listed;
use super::router::{AT_ONCE, Router};
use crate::csi::v1;
use crate::csi::v1::list_volumes_response::Entry;
use crate::error::Result;
use crate::lvm::volume_id::VolumeId;

const REACHABLE_ONLY: &str = "quarry-reachable-only";
/// A value for each node that is missing, by its topology value.
const UNREACHABLE: &str = "quarry-unreachable";

/// What is on the nodes that answered, and the others, by topology value.
#[derive(Debug, Default)]
pub struct Reachable {
    /// The volumes.
    pub entries: Vec<Entry>,
    /// The nodes that did not answer.
    pub silent: Vec<String>,
}

impl Reachable {
    /// The volumes of that list that an id can name.
    pub fn volumes(&self) -> Vec<Listed> {
        self.entries.iter().filter_map(|entry| Listed::of(entry.volume.as_ref()?)).collect()
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

/// What the answer to such a call says.
pub fn read(answer: Response<v1::ListVolumesResponse>) -> Reachable {
    let silent = answer.metadata().get_all(UNREACHABLE).iter();
    let silent = silent.map(|node| String::from_utf8_lossy(node.as_bytes()).into_owned()).collect();
    Reachable { entries: answer.into_inner().entries, silent }
}

impl Router {
    /// The volumes of the nodes that can be reached. That no node is known is an error also here.
    pub async fn reachable_volumes(&self, deadline: Deadline) -> Result<Reachable> {
        let nodes = self.nodes()?;
        let mut asking = Vec::with_capacity(nodes.len());
        for node in &nodes {
            asking.push(async move { (node, self.volumes_of(node, deadline).await) });
        }
        let answers: Vec<_> = stream::iter(asking).buffered(AT_ONCE).collect().await;
        let mut reachable = Reachable::default();
        for (node, answer) in answers {
            match answer {
                Ok(entries) => reachable.entries.extend(entries),
                Err(_) => reachable.silent.push(node.clone()),
            }
        }
        Ok(reachable)
    }

    /// The volumes of one node, page by page.
    async fn volumes_of(&self, node: &str, deadline: Deadline) -> Result<Vec<Entry>, Status> {
        let (mut entries, mut request) = (Vec::new(), v1::ListVolumesRequest::default());
        loop {
            let call = |mut client: Client, request| async move { client.list_volumes(request).await };
            let answer = self.call(node, deadline, request, call).await?;
            // Nobody is to say anything of the volumes of others.
            let is_its = |entry: &Entry| {
                let id = entry.volume.as_ref().and_then(|volume| VolumeId::parse(&volume.volume_id));
                id.is_some_and(|id| id.node == node)
            };
            entries.extend(answer.entries.into_iter().filter(is_its));
            if answer.next_token.is_empty() {
                return Ok(entries);
            }
            request = v1::ListVolumesRequest { max_entries: 0, starting_token: answer.next_token };
        }
    }

    pub(super) async fn list_reachable(&self, deadline: Deadline) -> Result<Response<v1::ListVolumesResponse>, Status> {
        let Reachable { entries, silent } = self.reachable_volumes(deadline).await?;
        let mut answer = Response::new(v1::ListVolumesResponse { entries, next_token: String::new() });
        // Topology values are ASCII.
        for node in silent.iter().filter_map(|node| node.parse::<AsciiMetadataValue>().ok()) {
            answer.metadata_mut().append(UNREACHABLE, node);
        }
        Ok(answer)
    }
}
