//! The server and what watches over it, called by the generated client over a real socket.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod authority;
mod services;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quarry::csi::endpoint::Endpoint;
use quarry::csi::observe::ObserveLayer;
use quarry::csi::server::{End, Server};
use quarry::csi::v1;
use quarry::csi::v1::identity_client::IdentityClient;
use quarry::csi::v1::identity_server::IdentityServer;
use quarry::csi::v1::node_client::NodeClient;
use quarry::csi::v1::snapshot_metadata_client::SnapshotMetadataClient;
use quarry::csi::v1::snapshot_metadata_server::SnapshotMetadataServer;
use quarry::telemetry::{Gauges, Metrics};
use services::{Blocks, Plugin};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Request};

struct Bench {
    directory: tempfile::TempDir,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    detached: TaskTracker,
    plugin: Plugin,
    serving: JoinHandle<End>,
}

impl Bench {
    async fn start(grace: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let endpoint: Endpoint = format!("unix://{}/csi.sock", directory.path().display()).parse().unwrap();
        let incoming = endpoint.bind().await.unwrap();
        let metrics = Arc::new(Metrics::new());
        let server = Server {
            observe: ObserveLayer::new(Arc::clone(&metrics)),
            stop: CancellationToken::new(),
            detached: TaskTracker::new(),
            grace,
            limits: None,
        };
        let plugin = Plugin::default();
        let routes = Routes::new(IdentityServer::new(plugin.clone())).add_service(SnapshotMetadataServer::new(Blocks));
        let (stop, detached) = (server.stop.clone(), server.detached.clone());
        let serving = tokio::spawn(async { server.serve(routes, incoming).await.unwrap() });
        Self { directory, metrics, stop, detached, plugin, serving }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("csi.sock")
    }

    async fn connect(&self) -> Channel {
        tonic::transport::Endpoint::try_from(format!("unix://{}", self.socket().display()))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    fn calls(&self, method: &str, code: &str) -> u64 {
        let line = format!(r#"quarry_csi_calls_total{{method="{method}",code="{code}"}} "#);
        let text = self.metrics.encode(&Gauges::default()).unwrap();
        text.lines().find_map(|other| other.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }

    /// A call is counted when the server drops it, which a client may not wait for.
    async fn await_calls(&self, method: &str, code: &str, count: u64) {
        for _ in 0..200 {
            if self.calls(method, code) == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let text = self.metrics.encode(&Gauges::default()).unwrap();
        panic!("not {count} calls of {method} with {code}:\n{text}");
    }
}

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn calls_are_answered_and_counted() {
    let bench = Bench::start(LONG).await;
    let mut client = IdentityClient::new(bench.connect().await);
    for _ in 0..2 {
        let info = client.get_plugin_info(v1::GetPluginInfoRequest {}).await;
        assert_eq!(info.unwrap().into_inner().name, "lvm.example");
    }
    bench.await_calls("GetPluginInfo", "OK", 2).await;
}

#[tokio::test]
async fn an_error_is_counted_and_never_goes_out_without_words() {
    let bench = Bench::start(LONG).await;
    let channel = bench.connect().await;
    // This handler answers with a code and an empty message.
    let error = IdentityClient::new(channel.clone())
        .get_plugin_capabilities(v1::GetPluginCapabilitiesRequest {})
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(!error.message().is_empty());
    bench.await_calls("GetPluginCapabilities", "FAILED_PRECONDITION", 1).await;
    // This service is not served at all.
    let error = NodeClient::new(channel).node_get_info(v1::NodeGetInfoRequest {}).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unimplemented, "NodeGetInfo is not offered by this driver"));
    bench.await_calls("NodeGetInfo", "UNIMPLEMENTED", 1).await;
}

#[tokio::test]
async fn a_stream_is_counted_at_its_end_with_the_code_it_ends_with() {
    let bench = Bench::start(LONG).await;
    let mut client = SnapshotMetadataClient::new(bench.connect().await);
    let request = v1::GetMetadataAllocatedRequest::default();
    let mut stream = client.get_metadata_allocated(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let error = stream.message().await.unwrap_err();
    assert_eq!(error.code(), Code::DataLoss);
    assert!(!error.message().is_empty());
    bench.await_calls("GetMetadataAllocated", "DATA_LOSS", 1).await;

    // This one does not end before its caller goes away.
    let request = v1::GetMetadataDeltaRequest::default();
    let stream = client.get_metadata_delta(request).await.unwrap();
    assert_eq!(bench.calls("GetMetadataDelta", "CANCELLED"), 0);
    drop(stream);
    bench.await_calls("GetMetadataDelta", "CANCELLED", 1).await;
}

#[tokio::test]
async fn a_handler_that_panics_is_counted_as_internal_and_the_server_goes_on() {
    let bench = Bench::start(LONG).await;
    let channel = bench.connect().await;
    let request = v1::GetMetadataAllocatedRequest {
        snapshot_id: "panic".to_owned(),
        ..v1::GetMetadataAllocatedRequest::default()
    };
    SnapshotMetadataClient::new(channel.clone()).get_metadata_allocated(request).await.unwrap_err();
    bench.await_calls("GetMetadataAllocated", "INTERNAL", 1).await;
    IdentityClient::new(channel).get_plugin_info(v1::GetPluginInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_call_past_its_deadline_is_counted_as_cancelled() {
    let bench = Bench::start(LONG).await;
    let mut client = IdentityClient::new(bench.connect().await);
    let mut request = Request::new(v1::ProbeRequest {});
    request.set_timeout(Duration::from_millis(50));
    let error = client.probe(request).await.unwrap_err();
    assert!(!error.message().is_empty());
    bench.await_calls("Probe", "CANCELLED", 1).await;
}

#[tokio::test]
async fn a_call_whose_caller_goes_away_is_counted_as_cancelled() {
    let bench = Bench::start(LONG).await;
    let mut client = IdentityClient::new(bench.connect().await);
    let call = tokio::spawn(async move { client.probe(v1::ProbeRequest {}).await });
    bench.plugin.probed.notified().await;
    call.abort();
    bench.await_calls("Probe", "CANCELLED", 1).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_idle_client() {
    let bench = Bench::start(LONG).await;
    let mut client = IdentityClient::new(bench.connect().await);
    client.get_plugin_info(v1::GetPluginInfoRequest {}).await.unwrap();
    bench.stop.cancel();
    assert_eq!(bench.serving.await.unwrap(), End::Drained);
}

#[tokio::test]
async fn a_stop_waits_for_calls_in_flight_and_for_detached_mutations() {
    let bench = Bench::start(LONG).await;
    let mut client = IdentityClient::new(bench.connect().await);
    let call = tokio::spawn(async move { client.probe(v1::ProbeRequest {}).await });
    bench.plugin.probed.notified().await;
    bench.stop.cancel();
    // A call in flight may start a mutation even now.
    let mutation = CancellationToken::new();
    bench.detached.spawn(mutation.clone().cancelled_owned());
    while tokio::net::UnixStream::connect(bench.socket()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!bench.serving.is_finished());

    bench.plugin.answer.notify_one();
    assert!(call.await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!bench.serving.is_finished());
    mutation.cancel();
    assert_eq!(bench.serving.await.unwrap(), End::Drained);
}

#[tokio::test]
async fn a_stop_ends_with_the_grace_period_at_the_latest() {
    let bench = Bench::start(Duration::from_millis(100)).await;
    let mut client = IdentityClient::new(bench.connect().await);
    tokio::spawn(async move { client.probe(v1::ProbeRequest {}).await });
    bench.plugin.probed.notified().await;
    bench.detached.spawn(std::future::pending::<()>());
    bench.stop.cancel();
    let end = bench.serving.await.unwrap();
    assert_eq!(end, End::GracePeriodOver { detached: 1 });
}
