//! What lists tell beyond ids and sizes, and the list of what can be reached.

use quarry::controller::reachable::{self, Reachable};
use quarry::csi::v1;
use quarry::csi::v1::controller_server::Controller as _;
use quarry::csi::volume_facts::VolumeFacts;
use quarry::lvm::tags::Claim;
use tonic::{Code, Request};

use crate::cluster::{Cluster, DRIVER, request_on};

#[tokio::test]
async fn a_list_tells_what_a_volume_is_and_for_whom_and_the_answer_to_its_making_does_not() {
    let cluster = Cluster::start(2).await;
    let mut request = request_on("pvc-1", 2, &["node-2"]);
    request.parameters = [("pvc/namespace", "shop"), ("pvc/name", "data")]
        .map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.to_owned()))
        .into();
    let made = cluster.create(request).await.unwrap();
    assert!(made.volume_context.is_empty());
    let answer = cluster.controller.list_volumes(Request::new(v1::ListVolumesRequest::default())).await.unwrap();
    let listed = answer.into_inner().entries.remove(0).volume.unwrap();
    let facts = VolumeFacts::of_context(&listed.volume_context);
    let expected = VolumeFacts {
        name: Some(String::from("pvc-1")),
        class: Some(String::from("fast")),
        claim: Some(Claim { namespace: String::from("shop"), name: String::from("data") }),
        created: facts.created,
        never_used: true,
        uuid: facts.uuid.clone(),
        usable: Some(true),
        in_default_class: true,
        driver: Some(String::from(DRIVER)),
        ..VolumeFacts::default()
    };
    assert_eq!(facts, expected);
    assert!(facts.created.is_some() && facts.uuid.is_some());
}

#[tokio::test]
async fn a_single_node_is_told_from_a_controller_that_knows_one() {
    let cluster = Cluster::start(1).await;
    cluster.create(request_on("pvc-1", 1, &["node-1"])).await.unwrap();
    let ask = || {
        let mut request = Request::new(v1::ListVolumesRequest::default());
        reachable::ask_for_it(&mut request);
        request
    };
    let (mut of_node, mut of_controller) = (Reachable::default(), Reachable::default());
    of_node.take(cluster.client(0).await.list_volumes(ask()).await.unwrap().into_inner().entries);
    of_controller.take(cluster.controller.list_volumes(ask()).await.unwrap().into_inner().entries);
    assert_eq!(of_node.volumes, of_controller.volumes);
    assert_eq!((of_node.nodes.len(), of_controller.nodes.len()), (0, 1));
}

#[tokio::test]
async fn who_asks_for_it_gets_the_list_of_the_reachable_and_who_is_missing() {
    let cluster = Cluster::start(3).await;
    for node in ["node-1", "node-2", "node-3"] {
        cluster.create(request_on(&format!("on-{node}"), 1, &[node])).await.unwrap();
    }
    cluster.end(1).await;
    let whole = Request::new(v1::ListVolumesRequest::default());
    assert_eq!(cluster.controller.list_volumes(whole).await.unwrap_err().code(), Code::Unavailable);
    for max_entries in [0, 1] {
        let (mut reachable, mut starting_token) = (Reachable::default(), String::new());
        loop {
            let mut part = Request::new(v1::ListVolumesRequest { max_entries, starting_token });
            reachable::ask_for_it(&mut part);
            let answer = cluster.controller.list_volumes(part).await.unwrap().into_inner();
            reachable.take(answer.entries);
            starting_token = answer.next_token;
            if starting_token.is_empty() {
                break;
            }
        }
        assert_eq!(reachable.silent().map(|(node, _)| node).collect::<Vec<_>>(), ["node-2"]);
        assert_eq!(reachable.counts(), [("node-1", 1), ("node-3", 1)].into());
        let ids: Vec<String> = reachable.volumes.iter().map(|volume| volume.id.to_string()).collect();
        assert_eq!(ids, ["node-1/on-node-1", "node-3/on-node-3"]);
    }
}

async fn snapshots(cluster: &Cluster, snapshot_id: &str, source_volume_id: &str, max_entries: i32) -> Vec<String> {
    let (mut found, mut starting_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListSnapshotsRequest {
            max_entries,
            starting_token,
            snapshot_id: snapshot_id.to_owned(),
            source_volume_id: source_volume_id.to_owned(),
            ..v1::ListSnapshotsRequest::default()
        };
        let answer = cluster.controller.list_snapshots(Request::new(request)).await.unwrap().into_inner();
        found.extend(answer.entries.into_iter().map(|entry| entry.snapshot.unwrap().snapshot_id));
        starting_token = answer.next_token;
        if starting_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test]
async fn snapshots_of_all_nodes_are_listed_and_those_of_one_volume_by_its_node() {
    let cluster = Cluster::start(2).await;
    let (mut volumes, mut all) = (Vec::new(), Vec::new());
    for node in ["node-1", "node-2"] {
        let volume = cluster.create(request_on(&format!("on-{node}"), 2, &[node])).await.unwrap().volume_id;
        for number in ["a", "b"] {
            let request = v1::CreateSnapshotRequest {
                source_volume_id: volume.clone(),
                name: format!("{number}-{node}"),
                ..v1::CreateSnapshotRequest::default()
            };
            let answer = cluster.controller.create_snapshot(Request::new(request)).await.unwrap().into_inner();
            all.push(answer.snapshot.unwrap().snapshot_id);
        }
        volumes.push(volume);
    }
    all.sort_unstable();
    for max_entries in [0, 1, 3] {
        let mut listed = snapshots(&cluster, "", "", max_entries).await;
        listed.sort_unstable();
        assert_eq!(listed, all, "{max_entries} at once");
    }
    let of_second: Vec<String> = all.iter().filter(|id| id.starts_with("node-2/")).cloned().collect();
    assert_eq!(snapshots(&cluster, "", &volumes[1], 0).await, of_second);
    assert_eq!(snapshots(&cluster, &all[0], "", 0).await, [all[0].clone()]);
    assert_eq!(snapshots(&cluster, &all[0], &volumes[0], 0).await, [all[0].clone()]);
    // Of two nodes, of a node that nobody knows, of nobody's making.
    for (snapshot, volume) in [(all[0].as_str(), volumes[1].as_str()), ("node-1/none", ""), ("no id", "")] {
        assert_eq!(snapshots(&cluster, snapshot, volume, 0).await, Vec::<String>::new(), "{snapshot} {volume}");
    }
    let get = v1::GetSnapshotRequest { snapshot_id: all[3].clone(), ..v1::GetSnapshotRequest::default() };
    let got = cluster.controller.get_snapshot(Request::new(get)).await.unwrap().into_inner().snapshot.unwrap();
    assert_eq!((got.snapshot_id, got.source_volume_id), (all[3].clone(), volumes[1].clone()));

    cluster.end(1).await;
    let whole = Request::new(v1::ListSnapshotsRequest::default());
    assert_eq!(cluster.controller.list_snapshots(whole).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(snapshots(&cluster, "", &volumes[0], 0).await.len(), 2);
}
