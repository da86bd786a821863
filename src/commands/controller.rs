//! `quarry controller`: serves CSI for many nodes until told to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::commands::serving::{CERTIFICATES_EVERY, end_on_signal, serve_pages};
use crate::config::driver_name::topology_key;
use crate::config::flags::{ControllerFlags, NodesFlags, UpkeepFlags};
use crate::controller::connections::{Connections, IDLE};
use crate::controller::controller_service::ControllerService;
use crate::controller::group_controller_service::GroupControllerService;
use crate::controller::kubernetes;
use crate::controller::kubernetes::events::Events;
use crate::controller::kubernetes::given_up::GivenUp;
use crate::controller::kubernetes::selected_node::SelectedNode;
use crate::controller::kubernetes::upkeep::Upkeep;
use crate::controller::membership::{self, Membership};
use crate::controller::metadata_service::MetadataService;
use crate::controller::router::Router;
use crate::csi::identity::IdentityService;
use crate::csi::observe::ObserveLayer;
use crate::csi::server::{End, Server};
use crate::csi::v1::controller_server::ControllerServer;
use crate::csi::v1::group_controller_server::GroupControllerServer;
use crate::csi::v1::identity_server::IdentityServer;
use crate::csi::v1::snapshot_metadata_server::SnapshotMetadataServer;
use crate::host::linux::descriptors::raise_limit;
use crate::host::linux::system_calls::hold_little_memory;
use crate::telemetry::http::{self, Source};
use crate::telemetry::{ControllerGauges, Gauges, Metrics, logs};
use crate::tls::authority::Lifetimes;
use crate::tls::{InForce, expiry, folder};

/// How often the file of nodes is looked at.
const NODES_EVERY: Duration = Duration::from_secs(2);
/// How often idle connections are looked for.
const IDLE_EVERY: Duration = Duration::from_mins(1);

/// Serves until SIGTERM or SIGINT.
pub fn run(flags: &ControllerFlags) -> anyhow::Result<()> {
    logs::start(flags.log_format)?;
    hold_little_memory();
    let limit = raise_limit().context("could not raise the limit of open descriptors")?;
    tracing::debug!(limit, "open descriptors, one for each node and some");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(flags))
}

async fn serve(flags: &ControllerFlags) -> anyhow::Result<()> {
    let (metrics, stop) = (Arc::new(Metrics::new()), CancellationToken::new());
    let driver = flags.driver_name.as_str().to_owned();
    let topology_key = topology_key(&driver);
    let kubernetes = match &flags.namespace {
        Some(namespace) if flags.tls_secrets || flags.nodes.service.is_some() => {
            let client =
                kubernetes::client::of_this_cluster().await.context("could not find the cluster's API server")?;
            Some((client, namespace.as_str()))
        }
        _ => None,
    };
    let membership = match (&kubernetes, &flags.nodes.service) {
        (Some((client, namespace)), Some(service)) => {
            kubernetes::nodes::watch(client, namespace, service, topology_key.clone(), stop.clone())
        }
        _ => nodes(&flags.nodes, &stop)?,
    };
    let material = match &kubernetes {
        Some((client, namespace)) if flags.tls_secrets => {
            let lifetimes = Lifetimes::default();
            kubernetes::certificates::keep(client.clone(), namespace, driver.clone(), lifetimes, stop.clone())
        }
        _ => folder::watch(flags.tls_folder.clone(), CERTIFICATES_EVERY, stop.clone()).await,
    };
    let connections = Connections::new(driver.clone(), material.clone());
    let router = Arc::new(Router::new(membership.clone(), connections, flags.lost_node_after));

    let (orphans, given_up, selected_node) = match kubernetes {
        // Only where the list of nodes comes from the cluster are they the nodes that its PersistentVolumes mean.
        Some((client, namespace)) if flags.nodes.service.is_some() => {
            let UpkeepFlags { look_every: every, orphan_grace: grace } = flags.upkeep;
            let (router, driver, namespace) = (Arc::clone(&router), driver.clone(), namespace.to_owned());
            let events = Arc::new(Events::new(client.clone()));
            let given_up = GivenUp { client: client.clone(), driver: driver.clone(), events: Arc::clone(&events) };
            let selected_node = || Arc::new(SelectedNode { client: client.clone() });
            let selected_node = flags.send_claims_to_sources.then(selected_node);
            let upkeep = Upkeep { router, membership, client, driver, namespace, every, grace };
            (Some(upkeep.start(events, stop.clone())), Some(Arc::new(given_up)), selected_node)
        }
        _ => (None, None, None),
    };

    let incoming = flags.socket.csi_endpoint.bind().await?;
    tokio::spawn(expiry::watch(material.clone(), stop.clone()));
    let source = Arc::new(ControllerSource { router: Arc::clone(&router), material, orphans });
    if let Some(address) = flags.health {
        serve_pages(address, http::health(Arc::clone(&source) as Arc<dyn Source>), stop.clone()).await?;
    }
    if let Some(address) = flags.metrics {
        serve_pages(address, http::everything(Arc::clone(&metrics), source), stop.clone()).await?;
    }
    end_on_signal(stop.clone())?;
    tokio::spawn(close_idle(Arc::clone(&router), stop.clone()));
    tokio::spawn({
        let (router, stop) = (Arc::clone(&router), stop.clone());
        async move { router.follow(stop).await }
    });

    let routes = Routes::new(IdentityServer::new(IdentityService { driver }))
        .add_service(GroupControllerServer::new(GroupControllerService { router: Arc::clone(&router) }))
        .add_service(SnapshotMetadataServer::new(MetadataService { router: Arc::clone(&router) }))
        .add_service(ControllerServer::new(ControllerService { router, topology_key, given_up, selected_node }));
    tracing::info!(socket = %flags.socket.csi_endpoint, "serving");
    let observe = ObserveLayer::new(metrics);
    let server = Server { observe, stop, detached: TaskTracker::new(), grace: flags.grace, limits: None };
    match server.serve(routes, incoming).await? {
        End::Drained => tracing::info!("ended"),
        End::GracePeriodOver { .. } => tracing::warn!("ended with calls under way; the nodes go on with them"),
    }
    Ok(())
}

fn nodes(flags: &NodesFlags, stop: &CancellationToken) -> anyhow::Result<Membership> {
    let known = match &flags.file {
        Some(file) => membership::file(file.clone(), NODES_EVERY, stop.clone()),
        None => membership::fixed(&flags.fixed),
    };
    known.map_err(anyhow::Error::msg)
}

async fn close_idle(router: Arc<Router>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(IDLE_EVERY)).await.is_some() {
        router.connections().close_idle(IDLE);
    }
}

/// What is measured when somebody asks.
struct ControllerSource {
    router: Arc<Router>,
    material: InForce,
    orphans: Option<watch::Receiver<Option<u64>>>,
}

#[tonic::async_trait]
impl Source for ControllerSource {
    async fn gauges(&self) -> Gauges {
        let orphans = self.orphans.as_ref().and_then(|orphans| *orphans.borrow());
        let controller = ControllerGauges { orphans, ..self.router.gauges() };
        let certificate_expires = expiry::expires(&self.material);
        Gauges { controller: Some(controller), certificate_expires, ..Gauges::default() }
    }

    fn warning(&self) -> Option<String> {
        self.material
            .borrow()
            .is_none()
            .then(|| String::from("there are no certificates yet, so no node can be reached"))
    }
}
