//! Volumes whose making had no answer, and where later tries make them.

use std::time::Duration;

use quarry::controller::membership::Member;
use quarry::csi::v1::controller_server::Controller as _;
use tonic::{Code, Request};

use crate::cluster::{Cluster, request, request_on};

/// More extents than a node has room for.
const TOO_MANY: usize = 100;

#[tokio::test]
async fn a_volume_that_may_have_been_made_is_not_made_elsewhere() {
    let cluster = Cluster::start(2).await;
    cluster.nodes[0].bench.hang_effects_with(Some("lvcreate"));
    let mut create = Request::new(request_on("pvc-1", 1, &["node-1"]));
    create.set_timeout(Duration::from_secs(3));
    cluster.controller.create_volume(create).await.unwrap_err();
    cluster.end(0).await;
    // Tries that do not go out change nothing of that.
    for _ in 0..2 {
        let again = cluster.create(request("pvc-1", 1)).await.unwrap_err();
        assert_eq!(again.code(), Code::Unavailable);
        assert!(again.message().contains("node-1"), "{again:?}");
    }
    let elsewhere = cluster.create(request_on("pvc-1", TOO_MANY, &["node-2"])).await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::ResourceExhausted);
    assert_eq!(cluster.create(request("pvc-1", 1)).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_volume_whose_making_never_reached_its_node_is_made_elsewhere() {
    let cluster = Cluster::start(2).await;
    cluster.end(0).await;
    let refused = cluster.create(request_on("pvc-1", 1, &["node-1"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(cluster.create(request("pvc-1", 1)).await.unwrap().volume_id, "node-2/pvc-1");
    cluster.know([Member { name: "node-1".into(), address: None }, cluster.nodes[1].member()], true);
    let away = cluster.create(request_on("pvc-2", 1, &["node-1"])).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable);
    assert_eq!(cluster.create(request("pvc-2", 1)).await.unwrap().volume_id, "node-2/pvc-2");
}

#[tokio::test]
async fn a_volume_that_is_still_being_made_is_not_made_elsewhere() {
    let cluster = Cluster::start(2).await;
    cluster.nodes[0].bench.hang_effects_with(Some("lvcreate"));
    let mut create = Request::new(request_on("pvc-1", 1, &["node-1"]));
    create.set_timeout(Duration::from_secs(3));
    cluster.controller.create_volume(create).await.unwrap_err();
    // The first has no volume of that name yet, and now the second is preferred.
    let again = cluster.create(request_on("pvc-1", 1, &["node-2", "node-1"])).await.unwrap_err();
    assert_eq!(again.code(), Code::Aborted, "{again:?}");
    assert_eq!(cluster.get("node-2/pvc-1").await.unwrap_err().code(), Code::NotFound);
    cluster.nodes[0].bench.hang_effects_with(None);
}
