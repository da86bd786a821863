//! Group snapshots through a controller.

use std::sync::Arc;

use quarry::controller::group_controller_service::GroupControllerService;
use quarry::csi::v1;
use quarry::csi::v1::group_controller_server::GroupController as _;
use tonic::{Code, Request};

use crate::cluster::{Cluster, request_on};

#[tokio::test]
async fn a_group_snapshot_is_asked_of_the_one_node_that_its_volumes_are_on() {
    let cluster = Cluster::start(2).await;
    let groups = GroupControllerService { router: Arc::clone(&cluster.controller.router) };
    for (name, node) in [("a", "node-1"), ("b", "node-1"), ("c", "node-2")] {
        cluster.create(request_on(name, 1, &[node])).await.unwrap();
    }
    let of = |ids: &[&str]| v1::CreateVolumeGroupSnapshotRequest {
        name: String::from("g"),
        source_volume_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    };
    for (ids, code, told) in [
        // The node itself says so: its volumes are thick.
        (&["node-1/a", "node-1/b"][..], Code::FailedPrecondition, "is not thin"),
        (&["node-1/a", "node-2/c"], Code::FailedPrecondition, "node-2/c on node \"node-2\""),
        (&["node-1/a", "node-1/c"], Code::NotFound, "node-1/c"),
        (&["node-9/a"], Code::Unavailable, "node-9"),
    ] {
        let refused = groups.create_volume_group_snapshot(Request::new(of(ids))).await.unwrap_err();
        assert_eq!(refused.code(), code);
        assert!(refused.message().contains(told), "{refused:?}");
    }
    let get = |id: &str| v1::GetVolumeGroupSnapshotRequest { group_snapshot_id: id.into(), ..Default::default() };
    let delete = |id: &str| v1::DeleteVolumeGroupSnapshotRequest { group_snapshot_id: id.into(), ..Default::default() };
    for (id, get_code, delete_code) in [
        ("node-2/group-g", Code::NotFound, Code::Ok),
        ("nonsense", Code::NotFound, Code::Ok),
        ("", Code::InvalidArgument, Code::InvalidArgument),
    ] {
        let got = groups.get_volume_group_snapshot(Request::new(get(id))).await;
        assert_eq!(got.unwrap_err().code(), get_code, "{id}");
        let deleted = groups.delete_volume_group_snapshot(Request::new(delete(id))).await;
        assert_eq!(deleted.map_or_else(|status| status.code(), |_| Code::Ok), delete_code, "{id}");
    }
    cluster.end(1).await;
    let deleted = groups.delete_volume_group_snapshot(Request::new(delete("node-2/group-g"))).await;
    assert_eq!(deleted.unwrap_err().code(), Code::Unavailable, "what cannot be asked is not gone");
}
