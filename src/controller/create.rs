//! `CreateVolume`: on the node that the request names, else on the one with the most room.
//!
//! A volume may exist already from an earlier try whose answer was lost. So where several nodes come into question, each
//! is first asked for a volume of that name; and what cannot be asked now is never answered with "no room", after which
//! the caller would forget the volume.

use tonic::{Code, Status};

use super::forward::{Client, Deadline, Failure};
use super::placement::{Wanted, by_room, wanted};
use super::router::Router;
use crate::csi::request::create::CreateVolume;
use crate::csi::v1;
use crate::error::Error;
use crate::lvm::names::logical_volume_name;
use crate::lvm::volume_id::VolumeId;

/// Answers that leave no doubt that the call made no volume.
const CERTAIN: [Code; 6] = [
    Code::ResourceExhausted,
    Code::InvalidArgument,
    Code::OutOfRange,
    Code::AlreadyExists,
    Code::FailedPrecondition,
    Code::Unimplemented,
];

/// What asking all nodes that come into question brought.
struct Search {
    /// Has a volume of that name.
    found: Option<String>,
    /// Have none.
    without: Vec<String>,
    /// Could not be asked, and why.
    silent: Vec<String>,
}

impl Router {
    /// Makes the volume.
    pub async fn create(
        &self,
        request: v1::CreateVolumeRequest,
        deadline: Deadline,
        topology_key: &str,
    ) -> Result<v1::CreateVolumeResponse, Status> {
        let checked = CreateVolume::parse(&request)?;
        let wanted = wanted(request.accessibility_requirements.as_ref(), topology_key);
        if let Some(source) = &checked.source {
            return self.create_beside(source.id(), &wanted, request, deadline).await;
        }
        let candidates = match &wanted {
            Wanted::Anywhere => self.nodes()?,
            Wanted::Nodes(nodes) => nodes.clone(),
        };
        let mut full = Vec::new();
        // The node of an earlier try without an answer is asked to make it, not whether it has it: it may be at it.
        let doubted = self.doubt(&checked.name).filter(|node| candidates.contains(node));
        if let Some(node) = &doubted {
            match self.create_on(node, request.clone(), deadline).await {
                Err(status) if status.code() == Code::ResourceExhausted => full.push(refusal(node, &status)),
                answer => return answer,
            }
        }
        let others: Vec<String> = candidates.into_iter().filter(|node| Some(node) != doubted.as_ref()).collect();
        if let ([only], None) = (others.as_slice(), &doubted) {
            return self.create_on(only, request, deadline).await;
        }
        let mut search = self.search(&checked.name, &others, deadline).await;
        if let Some(node) = search.found {
            return self.create_on(&node, request, deadline).await;
        }
        let nodes = match wanted {
            Wanted::Nodes(_) => search.without,
            Wanted::Anywhere => {
                let (nodes, silent) = self.by_room(search.without, &request, deadline).await;
                search.silent.extend(silent);
                nodes
            }
        };
        for node in nodes {
            match self.create_on(&node, request.clone(), deadline).await {
                Err(status) if status.code() == Code::ResourceExhausted => full.push(refusal(&node, &status)),
                answer => return answer,
            }
        }
        if search.silent.is_empty() {
            return Err(Error::NoNodeHasRoom { reason: some_of(&full) }.into());
        }
        let silent = some_of(&search.silent);
        let problem = format!("no node that can be reached has room, and others cannot be: {silent}");
        Err(Error::Unavailable { problem }.into())
    }

    /// For a copy that is wanted on one node although its source is on another: the names of both, the wanted one first.
    pub fn misplaced(&self, checked: &CreateVolume, wanted: &Wanted) -> Option<(String, String)> {
        let source = VolumeId::parse(checked.source.as_ref()?.id())?.node;
        match wanted {
            Wanted::Nodes(nodes) if nodes.len() == 1 && nodes[0] != source => {
                Some((self.name(&nodes[0])?, self.name(&source)?))
            }
            _ => None,
        }
    }

    /// A copy is made where its source is, or nowhere.
    async fn create_beside(
        &self,
        source: &str,
        wanted: &Wanted,
        request: v1::CreateVolumeRequest,
        deadline: Deadline,
    ) -> Result<v1::CreateVolumeResponse, Status> {
        let not_found = || Error::NotFound { what: format!("volume_content_source {source:?}") };
        let node = VolumeId::parse(source).ok_or_else(not_found)?.node;
        if self.is_lost(&node) {
            return Err(not_found().into());
        }
        match wanted {
            Wanted::Nodes(nodes) if !nodes.contains(&node) => {
                let reason =
                    format!("the source {source} is on node {node:?}, and copies are made where their source is");
                Err(Error::NoNodeHasRoom { reason }.into())
            }
            _ => self.create_on(&node, request, deadline).await,
        }
    }

    async fn create_on(
        &self,
        node: &str,
        request: v1::CreateVolumeRequest,
        deadline: Deadline,
    ) -> Result<v1::CreateVolumeResponse, Status> {
        let name = request.name.clone();
        let before = self.doubts.begin(&name, node);
        let call = |mut client: Client, request| async move { client.create_volume(request).await };
        let answer = self.attempt(node, deadline, request, call).await;
        match &answer {
            Ok(_) => self.doubts.end(&name, node, None),
            Err(Failure::Unsent(_)) => self.doubts.end(&name, node, before),
            Err(Failure::Said(status)) if CERTAIN.contains(&status.code()) => {
                self.doubts.end(&name, node, before.filter(|doubt| doubt.node != node));
            }
            Err(_) => {}
        }
        answer.map_err(Status::from)
    }

    /// Asks all of them for a volume of that name.
    async fn search(&self, name: &str, nodes: &[String], deadline: Deadline) -> Search {
        let logical_volume = logical_volume_name(name);
        let message = |node: &str| {
            let id = VolumeId { node: node.to_owned(), logical_volume: logical_volume.clone() };
            v1::ControllerGetVolumeRequest { volume_id: id.to_string() }
        };
        let call = |mut client: Client, request| async move { client.controller_get_volume(request).await };
        let mut search = Search { found: None, without: Vec::new(), silent: Vec::new() };
        for (node, answer) in self.ask(nodes, deadline, message, call).await {
            match answer {
                Ok(_) => search.found = search.found.or(Some(node)),
                Err(status) if status.code() == Code::NotFound => search.without.push(node),
                Err(status) => search.silent.push(status.message().to_owned()),
            }
        }
        search
    }

    /// The nodes by their room for such a volume, the most first; and why some did not tell.
    async fn by_room(
        &self,
        nodes: Vec<String>,
        request: &v1::CreateVolumeRequest,
        deadline: Deadline,
    ) -> (Vec<String>, Vec<String>) {
        let message = |_: &str| v1::GetCapacityRequest {
            volume_capabilities: request.volume_capabilities.clone(),
            parameters: request.parameters.clone(),
            ..v1::GetCapacityRequest::default()
        };
        let call = |mut client: Client, request| async move { client.get_capacity(request).await };
        let (mut told, mut silent) = (Vec::new(), Vec::new());
        for (node, answer) in self.ask(&nodes, deadline, message, call).await {
            match answer {
                Ok(capacity) => told.push((node, capacity)),
                Err(status) => silent.push(refusal(&node, &status)),
            }
        }
        (by_room(told), silent)
    }
}

fn refusal(node: &str, status: &Status) -> String {
    format!("{node}: {}", status.message())
}

/// The first of many reasons: with thousands of nodes a message must still fit where messages go.
fn some_of(reasons: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = reasons.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    match reasons.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}
