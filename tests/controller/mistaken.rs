//! Calls that reach another node than the one they mean.

use quarry::controller::membership::Member;
use quarry::csi::v1;
use quarry::csi::v1::controller_server::Controller as _;
use tonic::{Code, Request, Status};

use crate::cluster::{Cluster, on, request, request_on};

fn is_refused_for_both(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.message().contains("node-1") && status.message().contains("node-2")
}

#[tokio::test]
async fn a_node_at_the_address_of_another_is_not_taken_for_it() {
    let cluster = Cluster::start(2).await;
    cluster.create(request_on("pvc-1", 1, &["node-1"])).await.unwrap();
    // The addresses have been given out anew, and the controller has not learnt of it yet.
    let [one, other] = [&cluster.nodes[0], &cluster.nodes[1]].map(|node| Some(node.address.to_string()));
    let swapped = [("node-1", other), ("node-2", one)].map(|(name, address)| Member { name: name.into(), address });
    cluster.know(swapped, true);
    let statuses = [
        cluster.get("node-1/pvc-1").await.unwrap_err(),
        cluster.delete("node-1/pvc-1").await.unwrap_err(),
        cluster.create(request_on("pvc-2", 1, &["node-1"])).await.unwrap_err(),
        cluster.controller.list_volumes(Request::new(v1::ListVolumesRequest::default())).await.unwrap_err(),
    ];
    for status in &statuses {
        assert!(is_refused_for_both(status), "{status:?}");
    }
    let of_node = v1::GetCapacityRequest { accessible_topology: Some(on("node-1")), ..Default::default() };
    let status = cluster.controller.get_capacity(Request::new(of_node)).await.unwrap_err();
    assert!(is_refused_for_both(&status), "{status:?}");
    let nowhere = cluster.create(request("pvc-3", 1)).await.unwrap_err();
    assert_eq!(nowhere.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_node_refuses_whatever_names_another_nodes_volume() {
    let cluster = Cluster::start(2).await;
    cluster.create(request_on("pvc-1", 1, &["node-1"])).await.unwrap();
    // It has a volume of that name too, which must not be touched for the other's.
    let own = cluster.create(request_on("pvc-1", 1, &["node-2"])).await.unwrap();
    let mut client = cluster.client(1).await;
    let volume_id = String::from("node-1/pvc-1");
    let get = v1::ControllerGetVolumeRequest { volume_id: volume_id.clone() };
    assert_eq!(client.controller_get_volume(get).await.unwrap_err().code(), Code::NotFound);
    let health = v1::ControllerGetVolumeHealthRequest { volume_id: volume_id.clone(), ..Default::default() };
    assert_eq!(client.controller_get_volume_health(health).await.unwrap_err().code(), Code::NotFound);
    let validate = v1::ValidateVolumeCapabilitiesRequest {
        volume_id: volume_id.clone(),
        volume_capabilities: request("pvc-1", 1).volume_capabilities,
        ..Default::default()
    };
    assert_eq!(client.validate_volume_capabilities(validate).await.unwrap_err().code(), Code::NotFound);
    let expand = v1::ControllerExpandVolumeRequest {
        volume_id: volume_id.clone(),
        capacity_range: request("pvc-1", 2).capacity_range,
        ..Default::default()
    };
    assert_eq!(client.controller_expand_volume(expand).await.unwrap_err().code(), Code::NotFound);
    // An OK would make the caller forget a volume that is there.
    let delete = v1::DeleteVolumeRequest { volume_id, ..Default::default() };
    assert!(is_refused_for_both(&client.delete_volume(delete).await.unwrap_err()));
    let create = client.create_volume(request_on("pvc-2", 1, &["node-1"])).await.unwrap_err();
    assert_eq!(create.code(), Code::ResourceExhausted);
    let own = v1::ControllerGetVolumeRequest { volume_id: own.volume_id };
    client.controller_get_volume(own).await.unwrap();
}
