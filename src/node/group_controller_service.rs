//! The `GroupController` service of a node, over its own volume groups. Parse, call, answer.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::csi::capabilities::group_controller_capabilities;
use crate::csi::observe::subject;
use crate::csi::request::group::CreateGroupSnapshot;
use crate::csi::request::text;
use crate::csi::v1;
use crate::csi::v1::group_controller_server::GroupController;
use crate::error::Result;
use crate::node::Node;
use crate::node::controller_service::{ControllerService, timestamp};
use crate::node::snapshot::group::GroupSnapshot;

/// The `GroupController` service of a node.
#[derive(Clone)]
pub struct GroupControllerService {
    /// The node that does the work.
    pub node: Arc<Node>,
}

impl GroupControllerService {
    async fn group_snapshot(&self, group: &GroupSnapshot) -> Result<v1::VolumeGroupSnapshot> {
        let controller = ControllerService { node: Arc::clone(&self.node) };
        let mut snapshots = Vec::with_capacity(group.members.len());
        for member in &group.members {
            snapshots.push(controller.snapshot(member).await?);
        }
        Ok(v1::VolumeGroupSnapshot {
            group_snapshot_id: self.node.group_snapshot_id(&group.name),
            creation_time: Some(timestamp(group.taken())),
            ready_to_use: snapshots.iter().all(|snapshot| snapshot.ready_to_use),
            snapshots,
        })
    }

    async fn create(
        &self,
        request: &v1::CreateVolumeGroupSnapshotRequest,
    ) -> Result<v1::CreateVolumeGroupSnapshotResponse> {
        let group = self.node.create_group_snapshot(CreateGroupSnapshot::parse(request)?).await?;
        Ok(v1::CreateVolumeGroupSnapshotResponse { group_snapshot: Some(self.group_snapshot(&group).await?) })
    }

    async fn get(&self, request: &v1::GetVolumeGroupSnapshotRequest) -> Result<v1::GetVolumeGroupSnapshotResponse> {
        let id = text::required("group_snapshot_id", &request.group_snapshot_id)?;
        let group = self.node.get_group_snapshot(id, &request.snapshot_ids).await?;
        Ok(v1::GetVolumeGroupSnapshotResponse { group_snapshot: Some(self.group_snapshot(&group).await?) })
    }

    async fn delete(&self, request: &v1::DeleteVolumeGroupSnapshotRequest) -> Result<()> {
        let id = text::required("group_snapshot_id", &request.group_snapshot_id)?;
        self.node.delete_group_snapshot(id, &request.snapshot_ids).await
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
        subject(&request.get_ref().name);
        Ok(Response::new(self.create(request.get_ref()).await?))
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<v1::DeleteVolumeGroupSnapshotRequest>,
    ) -> Answer<v1::DeleteVolumeGroupSnapshotResponse> {
        subject(&request.get_ref().group_snapshot_id);
        self.delete(request.get_ref()).await?;
        Ok(Response::new(v1::DeleteVolumeGroupSnapshotResponse {}))
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<v1::GetVolumeGroupSnapshotRequest>,
    ) -> Answer<v1::GetVolumeGroupSnapshotResponse> {
        Ok(Response::new(self.get(request.get_ref()).await?))
    }
}
