//! No secret of any request is logged, at whatever level. That our own code cannot log one, the compiler sees to; this
//! is about the libraries between the socket and our code.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quarry::config::flags::LogFormat;
use quarry::csi::endpoint::Endpoint;
use quarry::csi::observe::{self, ObserveLayer};
use quarry::csi::server::Server;
use quarry::csi::v1;
use quarry::csi::v1::controller_client::ControllerClient;
use quarry::csi::v1::group_controller_client::GroupControllerClient;
use quarry::csi::v1::node_client::NodeClient;
use quarry::csi::v1::node_server::{Node, NodeServer};
use quarry::csi::v1::snapshot_metadata_client::SnapshotMetadataClient;
use quarry::telemetry::{Metrics, logs};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

const CANARY: &str = "canary-5f0c2a";

/// Two ways for a type to have this trait if it has `Debug`, one if it has not: the type parameter then cannot be
/// inferred, and the test does not compile.
trait WithoutDebug<Way> {
    const HOLDS: () = ();
}
impl<T> WithoutDebug<()> for T {}
impl<T: std::fmt::Debug> WithoutDebug<u8> for T {}

/// Sends the request with a secret in it, and counts it.
macro_rules! send {
    ($count:ident, $client:ident.$method:ident($request:ident)) => {
        let () = <v1::$request as WithoutDebug<_>>::HOLDS;
        #[allow(clippy::needless_update, reason = "one has no other field")]
        let request =
            v1::$request { secrets: HashMap::from([("key".to_owned(), CANARY.to_owned())]), ..v1::$request::default() };
        // Most are answered with UNIMPLEMENTED; every one of them has then passed through all layers.
        drop($client.$method(request).await);
        $count += 1;
    };
}

#[tokio::test]
async fn no_secret_of_any_request_is_logged_at_the_most_talkative_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = logs::subscriber(LogFormat::Text, "trace", move || writer.clone()).unwrap();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let url = format!("unix://{}/csi.sock", directory.path().display());
    let incoming = url.parse::<Endpoint>().unwrap().bind().await.unwrap();
    let server = Server {
        observe: ObserveLayer::new(Arc::new(Metrics::new())),
        stop: CancellationToken::new(),
        detached: TaskTracker::new(),
        grace: Duration::from_mins(1),
        limits: None,
    };
    let stop = server.stop.clone();
    let routes = Routes::new(NodeServer::new(Machine));
    let serving = tokio::spawn(server.serve(routes, incoming));
    let channel = tonic::transport::Endpoint::try_from(url).unwrap().connect().await.unwrap();

    let sent = send_all(channel).await;
    let secrets = include_str!("../proto/csi.proto").matches("(csi_secret) = true").count();
    assert_eq!(sent, secrets, "a request with secrets is not in this test");

    stop.cancel();
    serving.await.unwrap().unwrap();

    let lines = log.lines();
    assert!(!lines.contains(CANARY), "a secret is in the log:\n{lines}");
    // What follows shows that the log was on, and that the secrets did arrive.
    assert!(lines.contains("TRACE"), "{lines}");
    for staged in ["NodeStageVolume", "subject=\"node-1/pvc-1\"", "the secret is 13 bytes long"] {
        assert!(lines.contains(staged), "{staged} in\n{lines}");
    }
}

async fn send_all(channel: Channel) -> usize {
    let mut sent = 0;
    let mut controller = ControllerClient::new(channel.clone());
    send!(sent, controller.create_volume(CreateVolumeRequest));
    send!(sent, controller.delete_volume(DeleteVolumeRequest));
    send!(sent, controller.controller_publish_volume(ControllerPublishVolumeRequest));
    send!(sent, controller.controller_unpublish_volume(ControllerUnpublishVolumeRequest));
    send!(sent, controller.validate_volume_capabilities(ValidateVolumeCapabilitiesRequest));
    send!(sent, controller.controller_list_volume_health(ControllerListVolumeHealthRequest));
    send!(sent, controller.controller_get_volume_health(ControllerGetVolumeHealthRequest));
    send!(sent, controller.controller_modify_volume(ControllerModifyVolumeRequest));
    send!(sent, controller.controller_expand_volume(ControllerExpandVolumeRequest));
    send!(sent, controller.create_snapshot(CreateSnapshotRequest));
    send!(sent, controller.delete_snapshot(DeleteSnapshotRequest));
    send!(sent, controller.list_snapshots(ListSnapshotsRequest));
    send!(sent, controller.get_snapshot(GetSnapshotRequest));
    let mut groups = GroupControllerClient::new(channel.clone());
    send!(sent, groups.create_volume_group_snapshot(CreateVolumeGroupSnapshotRequest));
    send!(sent, groups.delete_volume_group_snapshot(DeleteVolumeGroupSnapshotRequest));
    send!(sent, groups.get_volume_group_snapshot(GetVolumeGroupSnapshotRequest));
    let mut blocks = SnapshotMetadataClient::new(channel.clone());
    send!(sent, blocks.get_metadata_allocated(GetMetadataAllocatedRequest));
    send!(sent, blocks.get_metadata_delta(GetMetadataDeltaRequest));
    let mut node = NodeClient::new(channel);
    send!(sent, node.node_stage_volume(NodeStageVolumeRequest));
    send!(sent, node.node_publish_volume(NodePublishVolumeRequest));
    send!(sent, node.node_expand_volume(NodeExpandVolumeRequest));
    send!(sent, node.node_get_storage_health(NodeGetStorageHealthRequest));
    sent
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Answers the calls that carry secrets, one of them with an error.
struct Machine;

type Answer<Body> = Result<Response<Body>, Status>;

fn fine<Body: Default>() -> Response<Body> {
    Response::new(Body::default())
}

#[tonic::async_trait]
impl Node for Machine {
    async fn node_stage_volume(
        &self,
        request: Request<v1::NodeStageVolumeRequest>,
    ) -> Answer<v1::NodeStageVolumeResponse> {
        observe::subject("node-1/pvc-1");
        let length = request.get_ref().secrets["key"].len();
        tracing::trace!("the secret is {length} bytes long");
        Err(Status::internal("cannot open the volume with the key given"))
    }

    async fn node_publish_volume(
        &self,
        _: Request<v1::NodePublishVolumeRequest>,
    ) -> Answer<v1::NodePublishVolumeResponse> {
        Ok(fine())
    }

    async fn node_expand_volume(
        &self,
        _: Request<v1::NodeExpandVolumeRequest>,
    ) -> Answer<v1::NodeExpandVolumeResponse> {
        Ok(fine())
    }

    async fn node_get_storage_health(
        &self,
        _: Request<v1::NodeGetStorageHealthRequest>,
    ) -> Answer<v1::NodeGetStorageHealthResponse> {
        Ok(fine())
    }

    async fn node_unstage_volume(
        &self,
        _: Request<v1::NodeUnstageVolumeRequest>,
    ) -> Answer<v1::NodeUnstageVolumeResponse> {
        Ok(fine())
    }

    async fn node_unpublish_volume(
        &self,
        _: Request<v1::NodeUnpublishVolumeRequest>,
    ) -> Answer<v1::NodeUnpublishVolumeResponse> {
        Ok(fine())
    }

    async fn node_get_volume_stats(
        &self,
        _: Request<v1::NodeGetVolumeStatsRequest>,
    ) -> Answer<v1::NodeGetVolumeStatsResponse> {
        Ok(fine())
    }

    async fn node_get_volume_health(
        &self,
        _: Request<v1::NodeGetVolumeHealthRequest>,
    ) -> Answer<v1::NodeGetVolumeHealthResponse> {
        Ok(fine())
    }

    async fn node_get_capabilities(
        &self,
        _: Request<v1::NodeGetCapabilitiesRequest>,
    ) -> Answer<v1::NodeGetCapabilitiesResponse> {
        Ok(fine())
    }

    async fn node_get_info(&self, _: Request<v1::NodeGetInfoRequest>) -> Answer<v1::NodeGetInfoResponse> {
        Ok(fine())
    }
}
