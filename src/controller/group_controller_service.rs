//! The `GroupController` service of a controller: all volumes of a group are on one node, which does it.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::forward::{Deadline, GroupClient};
use super::router::Router;
use crate::csi::capabilities::group_controller_capabilities;
use crate::csi::observe::subject;
use crate::csi::request::group::CreateGroupSnapshot;
use crate::csi::request::text;
use crate::csi::v1;
use crate::csi::v1::group_controller_server::GroupController;
use crate::error::Error;
use crate::lvm::volume_id::VolumeId;

/// The `GroupController` service of a controller.
#[derive(Clone)]
pub struct GroupControllerService {
    /// Knows the nodes.
    pub router: Arc<Router>,
}

impl GroupControllerService {
    async fn delete(&self, request: Request<v1::DeleteVolumeGroupSnapshotRequest>) -> Result<(), Status> {
        let (deadline, request) = (Deadline::of(request.metadata()), request.into_inner());
        subject(&request.group_snapshot_id);
        text::required("group_snapshot_id", &request.group_snapshot_id)?;
        let Some(id) = VolumeId::parse(&request.group_snapshot_id) else { return Ok(()) };
        if self.router.is_lost(&id.node) {
            tracing::warn!(group_snapshot = %id, node = id.node, "given up: its node is gone, and the snapshots with it");
            return Ok(());
        }
        let call = |mut client: GroupClient, request| async move { client.delete_volume_group_snapshot(request).await };
        self.router.call(&id.node, deadline, request, call).await.map(drop)
    }
}

type Answer<T> = std::result::Result<Response<T>, Status>;

#[tonic::async_trait]
impl GroupController for GroupControllerService {
    async fn group_controller_get_capabilities(
        &self,
        _request: Request<v1::GroupControllerGetCapabilitiesRequest>,
    ) -> Answer<v1::GroupControllerGetCapabilitiesResponse> {
        Ok(Response::new(group_controller_capabilities()))
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<v1::CreateVolumeGroupSnapshotRequest>,
    ) -> Answer<v1::CreateVolumeGroupSnapshotResponse> {
        let (deadline, request) = (Deadline::of(request.metadata()), request.into_inner());
        subject(&request.name);
        let node = CreateGroupSnapshot::parse(&request)?.node;
        let call = |mut client: GroupClient, request| async move { client.create_volume_group_snapshot(request).await };
        self.router.call(&node, deadline, request, call).await.map(Response::new)
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<v1::DeleteVolumeGroupSnapshotRequest>,
    ) -> Answer<v1::DeleteVolumeGroupSnapshotResponse> {
        self.delete(request).await?;
        Ok(Response::new(v1::DeleteVolumeGroupSnapshotResponse {}))
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<v1::GetVolumeGroupSnapshotRequest>,
    ) -> Answer<v1::GetVolumeGroupSnapshotResponse> {
        let (deadline, request) = (Deadline::of(request.metadata()), request.into_inner());
        let id = text::required("group_snapshot_id", &request.group_snapshot_id)?;
        let not_found = || Error::NotFound { what: format!("group snapshot {id:?}") };
        let node = VolumeId::parse(id).ok_or_else(not_found)?.node;
        let call = |mut client: GroupClient, request| async move { client.get_volume_group_snapshot(request).await };
        self.router.call(&node, deadline, request, call).await.map(Response::new)
    }
}
