//! Which node a call goes to, and what is answered when that cannot be reached.

use std::time::Duration;

use quarry::controller::membership::Member;
use quarry::csi::v1;
use quarry::csi::v1::controller_server::Controller as _;
use tonic::{Code, Request};

use crate::cluster::{Cluster, LOST_AFTER, Running, on, request, request_on};
use quarry_fake::disk_format::EXTENT;
use quarry_fake::seat::Spoiled;

/// Extents that a new volume may take in the class `fast` of an empty node.
const ROOM: usize = 15;

fn bytes(extents: usize) -> i64 {
    i64::try_from(extents * EXTENT).unwrap()
}

async fn ids(cluster: &Cluster, max_entries: i32, starting_token: &str) -> (Vec<String>, String) {
    let request = v1::ListVolumesRequest { max_entries, starting_token: starting_token.into() };
    let answer = cluster.controller.list_volumes(Request::new(request)).await.unwrap().into_inner();
    let ids = answer.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id);
    (ids.collect(), answer.next_token)
}

#[tokio::test]
async fn a_volume_is_made_where_the_request_says_and_found_by_its_id() {
    let cluster = Cluster::start(3).await;
    let volume = cluster.create(request_on("pvc-1", 2, &["node-2"])).await.unwrap();
    assert_eq!((volume.volume_id.as_str(), volume.capacity_bytes), ("node-2/pvc-1", bytes(2)));
    assert_eq!(volume.accessible_topology, [on("node-2")]);
    assert_eq!(cluster.get("node-2/pvc-1").await.unwrap(), volume);
    let grow = v1::ControllerExpandVolumeRequest {
        volume_id: volume.volume_id.clone(),
        capacity_range: Some(v1::CapacityRange { required_bytes: bytes(3), limit_bytes: 0 }),
        ..Default::default()
    };
    let grown = cluster.controller.controller_expand_volume(Request::new(grow)).await.unwrap().into_inner();
    assert_eq!(grown.capacity_bytes, bytes(3));
    assert_eq!(cluster.get("node-1/pvc-1").await.unwrap_err().code(), Code::NotFound);
    cluster.delete(&volume.volume_id).await.unwrap();
    assert_eq!(cluster.get(&volume.volume_id).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn preferred_nodes_are_tried_first_and_a_full_one_is_passed_over() {
    let cluster = Cluster::start(3).await;
    cluster.create(request_on("fills", ROOM, &["node-3"])).await.unwrap();
    let volume = cluster.create(request_on("pvc-1", 2, &["node-3", "node-2", "node-1"])).await.unwrap();
    assert_eq!(volume.volume_id, "node-2/pvc-1");
    let full = cluster.create(request_on("pvc-2", 2, &["node-3"])).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn without_a_wish_the_node_with_the_most_room_makes_it() {
    let cluster = Cluster::start(3).await;
    cluster.create(request_on("a", 5, &["node-1"])).await.unwrap();
    cluster.create(request_on("b", 3, &["node-3"])).await.unwrap();
    assert_eq!(cluster.create(request("c", 6)).await.unwrap().volume_id, "node-2/c");
    assert_eq!(cluster.create(request("d", 1)).await.unwrap().volume_id, "node-3/d");
}

#[tokio::test]
async fn a_repeated_request_finds_its_volume_although_another_node_has_more_room() {
    let cluster = Cluster::start(3).await;
    let volume = cluster.create(request("pvc-1", 6)).await.unwrap();
    assert_eq!(cluster.create(request("pvc-1", 6)).await.unwrap(), volume);
    let (ids, _) = ids(&cluster, 0, "").await;
    assert_eq!(ids, [volume.volume_id]);
    let larger = cluster.create(request("pvc-1", 9)).await.unwrap_err();
    assert_eq!(larger.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn no_room_is_said_only_when_all_nodes_said_it() {
    let cluster = Cluster::start(2).await;
    let full = cluster.create(request("pvc-1", ROOM + 1)).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(full.message().contains("node-1") && full.message().contains("node-2"), "{full:?}");
    cluster.end(1).await;
    let silent = cluster.create(request("pvc-1", ROOM + 1)).await.unwrap_err();
    assert_eq!(silent.code(), Code::Unavailable);
    assert!(silent.message().contains("node-2"), "{silent:?}");
    // What can be had is had all the same.
    assert_eq!(cluster.create(request("pvc-2", 1)).await.unwrap().volume_id, "node-1/pvc-2");
    cluster.know([], false);
    // That no node is known does not mean that none has the volume.
    let nobody = cluster.create(request("pvc-3", 1)).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unavailable);
    let list = cluster.controller.list_volumes(Request::new(v1::ListVolumesRequest::default())).await.unwrap_err();
    assert_eq!(list.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_named() {
    let cluster = Cluster::start(2).await;
    cluster.create(request_on("pvc-1", 1, &["node-1"])).await.unwrap();
    cluster.end(0).await;
    for (code, message) in [
        cluster.get("node-1/pvc-1").await.map_err(|status| (status.code(), status.message().to_owned())).unwrap_err(),
        cluster
            .delete("node-1/pvc-1")
            .await
            .map_err(|status| (status.code(), status.message().to_owned()))
            .unwrap_err(),
        cluster
            .delete("node-9/pvc-1")
            .await
            .map_err(|status| (status.code(), status.message().to_owned()))
            .unwrap_err(),
    ] {
        assert_eq!(code, Code::Unavailable);
        assert!(message.contains("node-1") || message.contains("node-9"), "{message}");
    }
    let away = Member { name: "node-1".into(), address: None };
    cluster.know([away, cluster.nodes[1].member()], true);
    let status = cluster.delete("node-1/pvc-1").await.unwrap_err();
    assert!(status.code() == Code::Unavailable && status.message().contains("no quarry node runs"), "{status:?}");
}

#[tokio::test]
async fn a_volume_of_a_node_that_is_gone_for_good_can_be_given_up() {
    let cluster = Cluster::start(2).await;
    cluster.create(request_on("pvc-1", 1, &["node-1"])).await.unwrap();
    cluster.end(0).await;
    let without_it = || cluster.know([cluster.nodes[1].member()], true);
    without_it();
    assert_eq!(cluster.delete("node-1/pvc-1").await.unwrap_err().code(), Code::Unavailable, "not yet");
    tokio::time::sleep(LOST_AFTER / 2).await;
    // It was back for a moment: the time starts again.
    cluster.know(cluster.nodes.iter().map(Running::member), true);
    assert_eq!(cluster.delete("node-1/pvc-1").await.unwrap_err().code(), Code::Unavailable);
    without_it();
    assert_eq!(cluster.delete("node-1/pvc-1").await.unwrap_err().code(), Code::Unavailable);
    tokio::time::sleep(LOST_AFTER / 2 + Duration::from_millis(10)).await;
    assert_eq!(cluster.delete("node-1/pvc-1").await.unwrap_err().code(), Code::Unavailable, "not yet again");
    tokio::time::sleep(LOST_AFTER).await;
    cluster.delete("node-1/pvc-1").await.unwrap();
    assert_eq!(cluster.get("node-1/pvc-1").await.unwrap_err().code(), Code::Unavailable, "only deletion gives up");
}

#[tokio::test]
async fn an_id_that_no_node_gave_out_is_unknown_and_needs_no_node() {
    let cluster = Cluster::start(0).await;
    cluster.delete("garbage").await.unwrap();
    assert_eq!(cluster.get("garbage").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(cluster.get("").await.unwrap_err().code(), Code::InvalidArgument);
    let nameless = cluster.create(request("", 1)).await.unwrap_err();
    assert_eq!(nameless.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_list_holds_the_volumes_of_all_nodes_page_by_page_or_fails() {
    let cluster = Cluster::start(3).await;
    let mut made = Vec::new();
    for (node, count) in [("node-1", 3), ("node-3", 2)] {
        for number in 0..count {
            made.push(cluster.create(request_on(&format!("v{number}"), 1, &[node])).await.unwrap().volume_id);
        }
    }
    assert_eq!(ids(&cluster, 0, "").await, (made.clone(), String::new()));
    for most in 1..=6 {
        let (mut found, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let (page, next) = ids(&cluster, most, &token).await;
            assert!(page.len() <= usize::try_from(most).unwrap());
            found.extend(page);
            pages += 1;
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert!(found == made && pages <= 7, "{most} at a time: {found:?} in {pages} pages");
    }
    for bad in ["nonsense", "at:", "at:node-1/nonsense"] {
        let request = v1::ListVolumesRequest { max_entries: 1, starting_token: bad.into() };
        let status = cluster.controller.list_volumes(Request::new(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::Aborted, "{bad}");
    }
    cluster.end(1).await;
    let status = cluster.controller.list_volumes(Request::new(v1::ListVolumesRequest::default())).await.unwrap_err();
    assert!(status.code() == Code::Unavailable && status.message().contains("node-2"), "{status:?}");
}

#[tokio::test]
async fn capacity_is_that_of_the_node_or_of_all() {
    let cluster = Cluster::start(3).await;
    cluster.create(request_on("a", 5, &["node-1"])).await.unwrap();
    let capacity = async |node: Option<&str>, class: &str| {
        let request = v1::GetCapacityRequest {
            accessible_topology: node.map(on),
            parameters: [("class".into(), class.into())].into(),
            ..Default::default()
        };
        let answer = cluster.controller.get_capacity(Request::new(request)).await.unwrap().into_inner();
        (answer.available_capacity, answer.maximum_volume_size.unwrap_or(0))
    };
    assert_eq!(capacity(Some("node-1"), "fast").await, (bytes(ROOM - 5), bytes(ROOM - 5)));
    assert_eq!(capacity(None, "fast").await, (bytes(3 * ROOM - 5), bytes(ROOM)));
    assert_eq!(capacity(None, "unheard-of").await, (0, 0));
    cluster.end(2).await;
    assert_eq!(capacity(None, "fast").await, (bytes(2 * ROOM - 5), bytes(ROOM)));
    let request = v1::GetCapacityRequest { accessible_topology: Some(on("node-3")), ..Default::default() };
    let status = cluster.controller.get_capacity(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_long_error_of_a_node_arrives_with_its_code_and_the_last_words_of_the_tool() {
    let cluster = Cluster::start(1).await;
    cluster.nodes[0].bench.spoil_lvm(Some(Spoiled::Verbose));
    let status = cluster.create(request_on("pvc-1", 1, &["node-1"])).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert!(status.message().starts_with("`lvm lvcreate "), "{status:?}");
    assert!(status.message().ends_with("No room for metadata."), "{status:?}");
}

#[tokio::test]
async fn a_deadline_goes_with_the_call() {
    let cluster = Cluster::start(1).await;
    cluster.nodes[0].bench.hang_effects_with(Some("lvcreate"));
    let mut create = Request::new(request_on("pvc-1", 1, &["node-1"]));
    create.set_timeout(Duration::from_secs(3));
    let begun = std::time::Instant::now();
    let status = cluster.controller.create_volume(create).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    // The node goes on with it, and a second try is told so.
    let busy = cluster.create(request_on("pvc-1", 1, &["node-1"])).await.unwrap_err();
    assert_eq!(busy.code(), Code::Aborted, "{busy:?}");
    cluster.nodes[0].bench.hang_effects_with(None);
}

#[tokio::test]
async fn nodes_that_do_not_answer_are_counted() {
    let cluster = Cluster::start(3).await;
    let counted = || {
        let gauges = cluster.controller.router.gauges();
        (gauges.nodes, gauges.nodes_reachable, gauges.forwards_in_flight)
    };
    assert_eq!(counted(), (3, 3, 0));
    cluster.end(1).await;
    cluster.get("node-2/pvc-1").await.unwrap_err();
    assert_eq!(counted(), (3, 2, 0));
    cluster.know([cluster.nodes[0].member(), Member { name: "node-3".into(), address: None }], true);
    assert_eq!(counted(), (2, 1, 0));
}

#[tokio::test]
async fn idle_connections_are_closed_and_made_again() {
    let cluster = Cluster::start(1).await;
    cluster.create(request_on("pvc-1", 1, &["node-1"])).await.unwrap();
    cluster.controller.router.connections().close_idle(Duration::ZERO);
    cluster.get("node-1/pvc-1").await.unwrap();
}
