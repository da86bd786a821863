//! The blocks of snapshots, which a node answers message by message.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use quarry::controller::membership::Member;
use quarry::controller::metadata_service::MetadataService;
use quarry::csi::observe::ObserveLayer;
use quarry::csi::server::Server;
use quarry::csi::v1;
use quarry::csi::v1::snapshot_metadata_server::{SnapshotMetadata, SnapshotMetadataServer};
use quarry::telemetry::Metrics;
use quarry::tls::server;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codegen::BoxStream;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::cluster::{Cluster, DRIVER, Running, material};

fn message(byte_offset: i64) -> v1::GetMetadataAllocatedResponse {
    v1::GetMetadataAllocatedResponse {
        block_metadata: vec![v1::BlockMetadata { byte_offset, size_bytes: 4096 }],
        volume_capacity_bytes: 1 << 30,
        ..v1::GetMetadataAllocatedResponse::default()
    }
}

/// A node that answers with two messages, and then not any more, or that it is ending.
struct Slow;

#[tonic::async_trait]
impl SnapshotMetadata for Slow {
    async fn get_metadata_allocated(
        &self,
        request: Request<v1::GetMetadataAllocatedRequest>,
    ) -> Result<Response<BoxStream<v1::GetMetadataAllocatedResponse>>, Status> {
        let first = stream::iter([Ok(message(0)), Ok(message(8192))]);
        if request.get_ref().snapshot_id.ends_with("snap-silent") {
            return Ok(Response::new(Box::pin(first.chain(stream::pending()))));
        }
        let last = stream::iter([Err(Status::unavailable("the node is ending"))]);
        Ok(Response::new(Box::pin(first.chain(last))))
    }
}

/// A cluster with such a node, `slow`, and what ends that.
async fn cluster_with_slow() -> (Cluster, MetadataService, CancellationToken) {
    let cluster = Cluster::start(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let (sender, shown) = watch::channel(Some(material(&cluster.keyring, &cluster.keyring.node)));
    let incoming = server::accept(listener, shown, DRIVER, stop.clone());
    let observe = ObserveLayer::new(Arc::new(Metrics::new()));
    let (grace, detached) = (Duration::ZERO, TaskTracker::new());
    let serving = Server { observe, stop: stop.clone(), detached, grace, limits: None };
    tokio::spawn(async move {
        let _sender = sender;
        serving.serve(Routes::new(SnapshotMetadataServer::new(Slow)), incoming).await
    });
    // The connections of this process cannot be ended from here, but those through something in between can.
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = Member { name: "slow".into(), address: Some(between.local_addr().unwrap().to_string()) };
    tokio::spawn({
        let stop = stop.clone();
        async move {
            let (mut here, _) = between.accept().await.unwrap();
            let mut there = TcpStream::connect(address).await.unwrap();
            stop.run_until_cancelled(copy_bidirectional(&mut here, &mut there)).await
        }
    });
    cluster.know(cluster.nodes.iter().map(Running::member).chain([slow]), true);
    let service = MetadataService { router: Arc::clone(&cluster.controller.router) };
    (cluster, service, stop)
}

async fn allocated(service: &MetadataService, id: &str) -> Result<BoxStream<v1::GetMetadataAllocatedResponse>, Status> {
    let request = v1::GetMetadataAllocatedRequest { snapshot_id: id.into(), ..Default::default() };
    service.get_metadata_allocated(Request::new(request)).await.map(Response::into_inner)
}

#[tokio::test]
async fn what_a_node_says_of_blocks_is_handed_on_as_it_comes_and_so_is_its_error() {
    let (_cluster, service, _stop) = cluster_with_slow().await;
    let mut answers = allocated(&service, "slow/snap-1").await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap(), message(0));
    assert_eq!(answers.next().await.unwrap().unwrap(), message(8192));
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the node is ending"));
    // A real node looks for the snapshot.
    let status = allocated(&service, "node-1/snap-1").await.err().unwrap();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("node-1/snap-1"), "{status:?}");
    assert_eq!(allocated(&service, "nowhere/snap-1").await.err().unwrap().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_node_that_is_gone_in_the_middle_of_its_blocks_is_named() {
    let (_cluster, service, stop) = cluster_with_slow().await;
    let mut answers = allocated(&service, "slow/snap-silent").await.unwrap();
    // The first comes although the stream has no end.
    assert_eq!(answers.next().await.unwrap().unwrap(), message(0));
    assert_eq!(answers.next().await.unwrap().unwrap(), message(8192));
    stop.cancel();
    let next = tokio::time::timeout(Duration::from_secs(30), answers.next()).await;
    let status = next.unwrap().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("slow"), "{status:?}");
}
