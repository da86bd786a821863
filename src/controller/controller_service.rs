//! The Controller service of a controller: which node, forward, answer.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::forward::{Client, Deadline};
use super::gather::{Page, page};
use super::kubernetes::given_up::GivenUp;
use super::kubernetes::selected_node::SelectedNode;
use super::placement::wanted;
use super::reachable;
use super::router::Router;
use crate::csi::capabilities::controller_capabilities;
use crate::csi::condition::Deletable;
use crate::csi::observe::subject;
use crate::csi::request::create::{ContentSource, CreateVolume};
use crate::csi::request::snapshot::CreateSnapshot;
use crate::csi::request::text;
use crate::csi::v1;
use crate::csi::v1::controller_server::Controller;
use crate::error::{Error, Result};
use crate::lvm::volume_id::VolumeId;

/// The Controller service of a controller.
#[derive(Clone)]
pub struct ControllerService {
    /// Knows the nodes.
    pub router: Arc<Router>,
    /// The key of the topology segment that names a node.
    pub topology_key: String,
    /// Tells the cluster of volumes that are given up with their nodes.
    pub given_up: Option<Arc<GivenUp>>,
    /// Sends claims of copies to the nodes of their sources.
    pub selected_node: Option<Arc<SelectedNode>>,
}

/// The node that an id names; an id that no node can have given out names no volume.
fn owner(volume_id: &str) -> Result<String> {
    text::required("volume_id", volume_id)?;
    VolumeId::parse(volume_id).map(|id| id.node).ok_or_else(|| Error::no_volume(volume_id))
}

impl ControllerService {
    /// An error when a copy is wanted on a wrong node and its claim now goes to the right one. Not "no room": after that
    /// external-provisioner would have the scheduler choose again.
    async fn send_to_source(&self, request: &v1::CreateVolumeRequest, deadline: Deadline) -> Result<(), Status> {
        let Some(selected_node) = &self.selected_node else { return Ok(()) };
        if request.volume_content_source.is_none() {
            return Ok(());
        }
        let checked = CreateVolume::parse(request)?;
        let wanted = wanted(request.accessibility_requirements.as_ref(), &self.topology_key);
        let (Some((chosen, right)), Some(claim)) =
            (self.router.misplaced(&checked, &wanted), &checked.parameters.claim)
        else {
            return Ok(());
        };
        if let Some(source) = &checked.source {
            self.ensure_source(source, deadline).await?;
        }
        if !selected_node.correct(claim, &checked.name, &chosen, &right).await {
            return Ok(());
        }
        Err(Error::precondition(format!(
            "node {chosen} was chosen, but the source is on node {right}, and copies are made where their source is; the \
             claim goes to node {right} now"
        ))
        .into())
    }

    /// That its node has the source. For one that is not there no claim is changed.
    async fn ensure_source(&self, source: &ContentSource, deadline: Deadline) -> Result<(), Status> {
        match source {
            ContentSource::Volume(id) => {
                let request = v1::ControllerGetVolumeRequest { volume_id: id.clone() };
                let call = |mut client: Client, request| async move { client.controller_get_volume(request).await };
                self.router.call(&owner(id)?, deadline, request, call).await.map(drop)
            }
            ContentSource::Snapshot(id) => {
                let request = v1::GetSnapshotRequest { snapshot_id: id.clone(), ..v1::GetSnapshotRequest::default() };
                let call = |mut client: Client, request| async move { client.get_snapshot(request).await };
                self.router.call(&owner(id)?, deadline, request, call).await.map(drop)
            }
        }
    }

    async fn delete(&self, request: Request<v1::DeleteVolumeRequest>) -> Result<(), Status> {
        let (deadline, deletable) = (Deadline::of(request.metadata()), Deletable::of(request.metadata()));
        let request = request.into_inner();
        subject(&request.volume_id);
        text::required("volume_id", &request.volume_id)?;
        let Some(id) = VolumeId::parse(&request.volume_id) else { return Ok(()) };
        if self.router.is_lost(&id.node) {
            tracing::warn!(volume = %id, node = id.node, "given up: its node is gone, and the volume with it");
            if let Some(given_up) = &self.given_up {
                given_up.tell(&id).await;
            }
            return Ok(());
        }
        let call = |mut client: Client, mut request: Request<_>| async move {
            deletable.put(request.metadata_mut());
            client.delete_volume(request).await
        };
        self.router.call(&id.node, deadline, request, call).await.map(drop)
    }

    async fn delete_snapshot(&self, request: Request<v1::DeleteSnapshotRequest>) -> Result<(), Status> {
        let (deadline, request) = (Deadline::of(request.metadata()), request.into_inner());
        subject(&request.snapshot_id);
        text::required("snapshot_id", &request.snapshot_id)?;
        let Some(id) = VolumeId::parse(&request.snapshot_id) else { return Ok(()) };
        if self.router.is_lost(&id.node) {
            tracing::warn!(snapshot = %id, node = id.node, "given up: its node is gone, and the snapshot with it");
            return Ok(());
        }
        let call = |mut client: Client, request| async move { client.delete_snapshot(request).await };
        self.router.call(&id.node, deadline, request, call).await.map(drop)
    }

    /// Those of one volume, or the one that is named, are on one node; what no node can have given out has none.
    async fn snapshots_of_one(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<v1::ListSnapshotsResponse, Status> {
        let (deadline, request) = (Deadline::of(request.metadata()), request.into_inner());
        let ids = [&request.snapshot_id, &request.source_volume_id].into_iter().filter(|id| !id.is_empty());
        let nodes: Option<Vec<String>> = ids.map(|id| VolumeId::parse(id).map(|id| id.node)).collect();
        let Some([node, others @ ..]) = nodes.as_deref() else { return Ok(v1::ListSnapshotsResponse::default()) };
        if others.iter().any(|other| other != node) || self.router.is_lost(node) {
            return Ok(v1::ListSnapshotsResponse::default());
        }
        let call = |mut client: Client, request| async move { client.list_snapshots(request).await };
        self.router.call(node, deadline, request, call).await
    }

    async fn capacity(&self, request: Request<v1::GetCapacityRequest>) -> Result<v1::GetCapacityResponse, Status> {
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        let call = |mut client: Client, request| async move { client.get_capacity(request).await };
        let segments = request.accessible_topology.as_ref().map(|topology| &topology.segments);
        if let Some(node) = segments.and_then(|segments| segments.get(&self.topology_key)) {
            let node = node.clone();
            return self.router.call(&node, deadline, request, call).await;
        }
        // What cannot be reached has no room that could be used now.
        let answers = self.router.ask(&self.router.nodes()?, deadline, |_| request.clone(), call).await;
        let mut sum = v1::GetCapacityResponse::default();
        let mut refusal = None;
        for (_, answer) in answers {
            match answer {
                Ok(answer) => {
                    sum.available_capacity = sum.available_capacity.saturating_add(answer.available_capacity);
                    sum.maximum_volume_size = sum.maximum_volume_size.max(answer.maximum_volume_size);
                    let least = answer.minimum_volume_size.filter(|least| *least > 0);
                    sum.minimum_volume_size = match (sum.minimum_volume_size, least) {
                        (Some(one), Some(other)) => Some(one.min(other)),
                        (one, other) => one.or(other),
                    };
                }
                Err(status) if status.code() == tonic::Code::InvalidArgument => refusal = Some(status),
                Err(_) => {}
            }
        }
        refusal.map_or(Ok(sum), Err)
    }
}

type Answer<T> = std::result::Result<Response<T>, Status>;

/// Forwards a call to the node that owns the volume it is about.
macro_rules! to_the_owner {
    ($service:expr, $request:expr, $method:ident) => {{
        let deadline = Deadline::of($request.metadata());
        let request = $request.into_inner();
        subject(&request.volume_id);
        let node = owner(&request.volume_id)?;
        let call = |mut client: Client, request| async move { client.$method(request).await };
        $service.router.call(&node, deadline, request, call).await.map(Response::new)
    }};
}

/// Answers with a page of the lists of all nodes, each of which answers the same call.
macro_rules! page_of_all {
    ($service:expr, $request:expr, $method:ident, $response:ident) => {{
        let (deadline, request) = (Deadline::of($request.metadata()), $request.into_inner());
        let router = &$service.router;
        let (most, token) = (request.max_entries, request.starting_token.clone());
        let ask = |node: String, max_entries, starting_token| {
            let mut request = request.clone();
            (request.max_entries, request.starting_token) = (max_entries, starting_token);
            let call = |mut client: Client, request| async move { client.$method(request).await };
            async move {
                let answer = router.call(&node, deadline, request, call).await?;
                Ok(Page { entries: answer.entries, next_token: answer.next_token })
            }
        };
        let Page { entries, next_token } = page(router.nodes()?, most, &token, ask).await?;
        Ok(Response::new(v1::$response { entries, next_token }))
    }};
}

#[tonic::async_trait]
impl Controller for ControllerService {
    async fn create_volume(&self, request: Request<v1::CreateVolumeRequest>) -> Answer<v1::CreateVolumeResponse> {
        let deadline = Deadline::of(request.metadata());
        subject(&request.get_ref().name);
        self.send_to_source(request.get_ref(), deadline).await?;
        self.router.create(request.into_inner(), deadline, &self.topology_key).await.map(Response::new)
    }

    async fn delete_volume(&self, request: Request<v1::DeleteVolumeRequest>) -> Answer<v1::DeleteVolumeResponse> {
        self.delete(request).await?;
        Ok(Response::new(v1::DeleteVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<v1::ValidateVolumeCapabilitiesRequest>,
    ) -> Answer<v1::ValidateVolumeCapabilitiesResponse> {
        if request.get_ref().volume_capabilities.is_empty() {
            return Err(Error::invalid("volume_capabilities", "is missing").into());
        }
        to_the_owner!(self, request, validate_volume_capabilities)
    }

    async fn list_volumes(&self, request: Request<v1::ListVolumesRequest>) -> Answer<v1::ListVolumesResponse> {
        if reachable::is_wanted(request.metadata()) {
            return self.router.list_reachable(request.into_inner()).await;
        }
        page_of_all!(self, request, list_volumes, ListVolumesResponse)
    }

    async fn create_snapshot(&self, request: Request<v1::CreateSnapshotRequest>) -> Answer<v1::CreateSnapshotResponse> {
        let (deadline, request) = (Deadline::of(request.metadata()), request.into_inner());
        subject(&request.name);
        let node = owner(&CreateSnapshot::parse(&request)?.source_volume_id)?;
        let call = |mut client: Client, request| async move { client.create_snapshot(request).await };
        self.router.call(&node, deadline, request, call).await.map(Response::new)
    }

    async fn delete_snapshot(&self, request: Request<v1::DeleteSnapshotRequest>) -> Answer<v1::DeleteSnapshotResponse> {
        self.delete_snapshot(request).await?;
        Ok(Response::new(v1::DeleteSnapshotResponse {}))
    }

    async fn list_snapshots(&self, request: Request<v1::ListSnapshotsRequest>) -> Answer<v1::ListSnapshotsResponse> {
        let wanted = request.get_ref();
        if wanted.snapshot_id.is_empty() && wanted.source_volume_id.is_empty() {
            return page_of_all!(self, request, list_snapshots, ListSnapshotsResponse);
        }
        self.snapshots_of_one(request).await.map(Response::new)
    }

    async fn get_snapshot(&self, request: Request<v1::GetSnapshotRequest>) -> Answer<v1::GetSnapshotResponse> {
        let (deadline, request) = (Deadline::of(request.metadata()), request.into_inner());
        let snapshot_id = text::required("snapshot_id", &request.snapshot_id)?;
        let not_found = || Error::NotFound { what: format!("snapshot {snapshot_id:?}") };
        let node = VolumeId::parse(snapshot_id).ok_or_else(not_found)?.node;
        let call = |mut client: Client, request| async move { client.get_snapshot(request).await };
        self.router.call(&node, deadline, request, call).await.map(Response::new)
    }

    async fn get_capacity(&self, request: Request<v1::GetCapacityRequest>) -> Answer<v1::GetCapacityResponse> {
        self.capacity(request).await.map(Response::new)
    }

    async fn controller_get_volume(
        &self,
        request: Request<v1::ControllerGetVolumeRequest>,
    ) -> Answer<v1::ControllerGetVolumeResponse> {
        to_the_owner!(self, request, controller_get_volume)
    }

    async fn controller_get_volume_health(
        &self,
        request: Request<v1::ControllerGetVolumeHealthRequest>,
    ) -> Answer<v1::ControllerGetVolumeHealthResponse> {
        to_the_owner!(self, request, controller_get_volume_health)
    }

    async fn controller_list_volume_health(
        &self,
        request: Request<v1::ControllerListVolumeHealthRequest>,
    ) -> Answer<v1::ControllerListVolumeHealthResponse> {
        page_of_all!(self, request, controller_list_volume_health, ControllerListVolumeHealthResponse)
    }

    async fn controller_get_capabilities(
        &self,
        _request: Request<v1::ControllerGetCapabilitiesRequest>,
    ) -> Answer<v1::ControllerGetCapabilitiesResponse> {
        Ok(Response::new(controller_capabilities()))
    }

    async fn controller_expand_volume(
        &self,
        request: Request<v1::ControllerExpandVolumeRequest>,
    ) -> Answer<v1::ControllerExpandVolumeResponse> {
        if request.get_ref().capacity_range.is_none() {
            text::required("volume_id", &request.get_ref().volume_id)?;
            return Err(Error::invalid("capacity_range", "is missing").into());
        }
        to_the_owner!(self, request, controller_expand_volume)
    }
}
