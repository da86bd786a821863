//! Where copies are made, and how their claims get there.

use std::sync::{Arc, Mutex};

use quarry::controller::kubernetes::selected_node::SelectedNode;
use quarry::csi::v1;
use quarry::csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use tonic::Code;

use crate::api_server::{Objects, client};
use crate::cluster::{Cluster, request_on};

/// A clone of a volume, as external-provisioner asks for it when a node was chosen for the claim.
fn clone_of(source: &str, name: &str, node: &str) -> v1::CreateVolumeRequest {
    let source = VolumeSource { volume_id: source.to_owned() };
    let mut request = request_on(name, 2, &[node]);
    request.volume_content_source = Some(v1::VolumeContentSource { r#type: Some(Type::Volume(source)) });
    for (key, value) in [("pvc/name", "copy"), ("pvc/namespace", "shop")] {
        request.parameters.insert(format!("csi.storage.k8s.io/{key}"), value.to_owned());
    }
    request
}

/// A volume on `node-1`, and a claim for which the scheduler has chosen `selected`.
async fn with_claim(selected: &str) -> (Cluster, Arc<Mutex<Objects>>) {
    let objects = Objects {
        claims: [(String::from("copy"), String::from("2"))].into(),
        selected: [(String::from("copy"), selected.to_owned())].into(),
        ..Objects::default()
    };
    let objects = Arc::new(Mutex::new(objects));
    let mut cluster = Cluster::start(2).await;
    cluster.controller.selected_node = Some(Arc::new(SelectedNode { client: client(&objects) }));
    cluster.create(request_on("pvc-1", 2, &["node-1"])).await.unwrap();
    (cluster, objects)
}

#[tokio::test]
async fn the_claim_of_a_copy_goes_to_the_node_of_its_source() {
    let (cluster, objects) = with_claim("node-2").await;
    let refused = cluster.create(clone_of("node-1/pvc-1", "pvc-2", "node-2")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("the source is on node node-1"), "{refused}");
    assert_eq!(objects.lock().unwrap().selected["copy"], "node-1");
}

#[tokio::test]
async fn a_claim_that_is_another_by_now_or_goes_elsewhere_is_left_alone() {
    for (selected, volume) in [("node-3", "pvc-2"), ("node-2", "pvc-3"), ("node-2", "by-hand")] {
        let (cluster, objects) = with_claim(selected).await;
        let refused = cluster.create(clone_of("node-1/pvc-1", volume, "node-2")).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert!(refused.message().contains("node \"node-1\""), "{refused}");
        assert_eq!(objects.lock().unwrap().selected["copy"], selected);
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_moves_no_claim() {
    let (cluster, objects) = with_claim("node-2").await;
    let mut of_snapshot = clone_of("node-1/pvc-1", "pvc-2", "node-2");
    let source = SnapshotSource { snapshot_id: String::from("node-1/snap-9") };
    of_snapshot.volume_content_source = Some(v1::VolumeContentSource { r#type: Some(Type::Snapshot(source)) });
    for request in [clone_of("node-1/pvc-9", "pvc-2", "node-2"), of_snapshot] {
        let refused = cluster.create(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
        assert_eq!(objects.lock().unwrap().selected["copy"], "node-2");
    }
}

#[tokio::test]
async fn a_source_on_a_node_that_is_not_known_moves_no_claim() {
    let (cluster, objects) = with_claim("node-2").await;
    let refused = cluster.create(clone_of("node-9/pvc-1", "pvc-2", "node-2")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(objects.lock().unwrap().selected["copy"], "node-2");
}
