//! Nodes that neither answer nor refuse: those without power.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use quarry::csi::v1;
use quarry::csi::v1::controller_server::Controller as _;
use tokio::time::Instant;
use tonic::{Code, Request};

use crate::cluster::Cluster;

/// How long a connection may take to come to be.
const CONNECTING: Duration = Duration::from_secs(5);
const A_MOMENT: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn those_who_call_a_silent_node_share_one_attempt_and_those_who_come_soon_after_do_not_wait() {
    let cluster = Cluster::start(0).await;
    let silent = cluster.know_silent_node("node-1").await;
    let begun = Instant::now();
    for status in join_all((0..20).map(|_| cluster.get("node-1/pvc-1"))).await.into_iter().map(Result::unwrap_err) {
        assert!(status.code() == Code::Unavailable && status.message().contains("node-1"), "{status:?}");
    }
    assert!((CONNECTING..CONNECTING + A_MOMENT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let begun = Instant::now();
    let status = cluster.get("node-1/pvc-1").await.unwrap_err();
    assert!(status.code() == Code::Unavailable && status.message().contains("node-1"), "{status:?}");
    assert!(begun.elapsed() < A_MOMENT, "{:?}", begun.elapsed());
    silent.accept().await.unwrap();
    assert!(silent.accept().now_or_never().is_none(), "a second attempt");
    // It may be back.
    tokio::time::sleep(CONNECTING).await;
    cluster.get("node-1/pvc-1").await.unwrap_err();
    silent.accept().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_who_calls_a_silent_node_waits_no_longer_than_until_his_own_deadline() {
    let cluster = Cluster::start(0).await;
    let _silent = cluster.know_silent_node("node-1").await;
    let call = async |deadline: Duration| {
        let begun = Instant::now();
        let mut request = Request::new(v1::ControllerGetVolumeRequest { volume_id: "node-1/pvc-1".into() });
        request.set_timeout(deadline);
        let status = cluster.controller.controller_get_volume(request).await.unwrap_err();
        (status, begun.elapsed())
    };
    let seconds = Duration::from_secs;
    let (patient, hasty, hastier) = tokio::join!(call(seconds(60)), call(seconds(2)), call(seconds(1)));
    assert_eq!(patient.0.code(), Code::Unavailable);
    for ((status, took), deadline) in [(hasty, seconds(2)), (hastier, seconds(1))] {
        assert!(status.code() == Code::DeadlineExceeded && status.message().contains("node-1"), "{status:?}");
        assert!((deadline..deadline + A_MOMENT).contains(&took), "{took:?}");
    }
}
