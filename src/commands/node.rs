//! `quarry node`: serves CSI until told to end.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::commands::node_metrics::{CommandWatcher, NodeSource};
use crate::commands::serving::{CERTIFICATES_EVERY, end_on_signal, listen, serve_pages};
use crate::config::classes::Classes;
use crate::config::flags::{ClassesFlags, ClassesSource, NodeFlags};
use crate::config::watch::{ClassesInForce, LOOK_EVERY};
use crate::csi::identity::IdentityService;
use crate::csi::observe::ObserveLayer;
use crate::csi::server::{ConnectionLimits, End, Server};
use crate::csi::v1::controller_server::ControllerServer;
use crate::csi::v1::group_controller_server::GroupControllerServer;
use crate::csi::v1::identity_server::IdentityServer;
use crate::csi::v1::node_server::NodeServer;
use crate::csi::v1::snapshot_metadata_server::SnapshotMetadataServer;
use crate::host::check_options;
use crate::host::linux::Linux;
use crate::host::linux::system_calls::{give_code_back, give_memory_back, hold_little_memory};
use crate::host::processes::{Observer, Processes};
use crate::lvm::backup::Backups;
use crate::lvm::system_folder::{self, SystemFolder};
use crate::node::controller_service::ControllerService;
use crate::node::group_controller_service::GroupControllerService;
use crate::node::metadata_service::MetadataService;
use crate::node::node_service::NodeService;
use crate::node::{Identity, Node, pools, reaper, remote, snapshot, trim};
use crate::telemetry::{Metrics, http, logs};
use crate::tls::{self, expiry, folder};

/// How often lvm's own settings are looked at and free memory is given back.
const KEEP_HOUSE_EVERY: Duration = Duration::from_secs(10);

/// How long the start waits for lvm.
const LVM_AT_START: Duration = Duration::from_secs(3);

/// Holds lvm's settings for our commands, a folder a driver.
const LVM_SETTINGS: &str = "/run/quarry-lvm";

/// Serves until SIGTERM or SIGINT.
pub fn run(flags: &NodeFlags) -> anyhow::Result<()> {
    logs::start(flags.log_format)?;
    hold_little_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()?;
    runtime.block_on(serve(flags))?;
    // Device calls that hang in the kernel cannot be ended; they must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Two, so that a call does not wait while another one reads a large group. With one processor it waits all the same, and a second
/// worker would only wake with the first whenever a call comes back from the kernel.
fn workers() -> usize {
    available_parallelism().map_or(1, NonZero::get).min(2)
}

async fn serve(flags: &NodeFlags) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let watcher = Arc::new(CommandWatcher::new(Arc::clone(&metrics)));
    let classes = Arc::new(classes_in_force(&flags.classes)?);
    let node_name = flags.identity.node_name().context("could not find out the host's name; give --node-name")?;
    let identity = Identity {
        driver: flags.identity.driver_name.as_str().to_owned(),
        topology: flags.identity.topology_value()?,
        name: node_name,
        max_volumes: flags.max_volumes,
    };
    let (stop, detached) = (CancellationToken::new(), TaskTracker::new());
    let settings = lvm_settings(flags.identity.driver_name.as_str())?;
    let mut processes = Processes::new()
        .observed(Arc::clone(&watcher) as Arc<dyn Observer>)
        .variable(system_folder::VARIABLE, settings.path());
    if flags.lvm_on_host {
        processes = processes.on_host("lvm");
    }
    let kernel = Arc::new(Linux::new());
    load_targets(&kernel).await;
    let (commands, backups) = (Arc::new(processes), Backups::default());
    let node = Node::new(identity, classes, commands, kernel, backups, detached.clone(), stop.clone());
    if let Some(bytes) = flags.remember_copies_every {
        node.remember_copies_every(bytes.0);
    }
    learn_system_id(&node).await;

    let incoming = flags.socket.csi_endpoint.bind().await?;
    let remote = match flags.listen {
        None => None,
        Some(address) => {
            let material = folder::watch(flags.tls_folder.clone(), CERTIFICATES_EVERY, stop.clone()).await;
            tokio::spawn(expiry::watch(material.clone(), stop.clone()));
            Some((address, listen(address).await?, material))
        }
    };
    if let Some(address) = flags.metrics {
        let material = remote.as_ref().map(|(_, _, material)| material.clone());
        let source = Arc::new(NodeSource { node: Arc::clone(&node), watcher, material });
        serve_pages(address, http::everything(Arc::clone(&metrics), source), stop.clone()).await?;
    }
    end_on_signal(stop.clone())?;
    // An lvm that hangs must keep nobody from publishing.
    detached.spawn(reaper::run(Arc::clone(&node), stop.clone()));
    detached.spawn(pools::watch::run(Arc::clone(&node), stop.clone()));
    detached.spawn(snapshot::reserve::run(Arc::clone(&node), stop.clone()));
    detached.spawn(trim::run(Arc::clone(&node), stop.clone()));
    tokio::spawn(judge(Arc::clone(&node)));
    tokio::spawn(keep_house(settings));

    let driver = node.identity.driver.clone();
    let routes = Routes::new(IdentityServer::new(IdentityService { driver: driver.clone() }))
        .add_service(ControllerServer::new(ControllerService { node: Arc::clone(&node) }))
        .add_service(GroupControllerServer::new(GroupControllerService { node: Arc::clone(&node) }))
        .add_service(SnapshotMetadataServer::new(MetadataService { node: Arc::clone(&node) }))
        .add_service(NodeServer::new(NodeService { node: Arc::clone(&node) }));
    let observe = ObserveLayer::new(metrics);
    let server = Server { observe, stop: stop.clone(), detached, grace: flags.grace, limits: None };
    let local = server.clone().serve(routes, incoming);
    tracing::info!(socket = %flags.socket.csi_endpoint, node = node.identity.name, "serving");
    give_code_back();
    let end = match remote {
        None => local.await?,
        Some((address, listener, material)) => {
            tracing::info!(%address, "serving a controller");
            let incoming = tls::server::accept(listener, material, &driver, stop);
            let server = Server { limits: Some(ConnectionLimits::default()), ..server };
            tokio::try_join!(local, server.serve(remote::routes(&node), incoming))?.0
        }
    };
    match end {
        End::Drained => tracing::info!("ended"),
        End::GracePeriodOver { detached } => {
            tracing::warn!(detached, "ended with operations running; their lvm commands go on to their end");
        }
    }
    Ok(())
}

/// Has the kernel load what thin volumes and snapshots need. lvm would start modprobe for that, which an image has not, nor
/// may a container load modules.
async fn load_targets(kernel: &Linux) {
    for (needed, purpose) in [("thin-pool", "thin volumes"), ("snapshot", "snapshots of thick volumes")] {
        match kernel.has_target(needed).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!("the kernel has no device-mapper target {needed:?}: there can be no {purpose}"),
            Err(error) => tracing::warn!(%error, "device-mapper cannot be asked for its target {needed:?}"),
        }
    }
}

/// The classes that the flags name.
pub fn classes_in_force(flags: &ClassesFlags) -> anyhow::Result<ClassesInForce> {
    Ok(match flags.source().map_err(anyhow::Error::msg)? {
        ClassesSource::VolumeGroups(groups) => {
            ClassesInForce::fixed(Classes::single(groups).map_err(anyhow::Error::msg)?)
        }
        ClassesSource::File(file) => {
            ClassesInForce::watch(file.to_owned(), LOOK_EVERY, |text| Classes::parse(text, check_options))
                .with_context(|| format!("{}", file.display()))?
        }
    })
}

/// lvm's settings lie apart from the socket: in its folder a driver may make nothing else (CSI specification,
/// "Operational requirements"). Drivers of different names on one machine do not meet there.
fn lvm_settings(driver: &str) -> anyhow::Result<SystemFolder> {
    let folder = Path::new(LVM_SETTINGS).join(driver);
    SystemFolder::make(&folder).with_context(|| format!("could not write lvm's settings to {}", folder.display()))
}

/// What has to be done now and then: an administrator's change of lvm's settings counts a moment later, and memory
/// that is free goes back.
async fn keep_house(settings: SystemFolder) {
    loop {
        tokio::time::sleep(KEEP_HOUSE_EVERY).await;
        let refreshing = settings.clone();
        let work = move || {
            give_memory_back();
            give_code_back();
            refreshing.refresh()
        };
        let refreshed = tokio::task::spawn_blocking(work).await;
        if let Err(error) = refreshed.unwrap_or_else(|failure| Err(std::io::Error::other(failure))) {
            tracing::warn!(%error, folder = %settings.path().display(), "could not bring lvm's settings up to date");
        }
    }
}

/// Before anything is served, so that no group of this machine is refused as another's; but an lvm that hangs keeps
/// nobody from publishing.
async fn learn_system_id(node: &Arc<Node>) {
    let learning = tokio::spawn({
        let node = Arc::clone(node);
        async move { node.groups.learn_system_id().await }
    });
    match timeout(LVM_AT_START, learning).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => {
            tracing::warn!(%error, "could not ask lvm for the system id; groups that have one are not used");
        }
        Ok(Err(failure)) => tracing::error!(%failure, "asking lvm for the system id broke off"),
        Err(_) => tracing::warn!("lvm does not answer; groups with a system id are not used until it does"),
    }
}

/// lvm is the judge of what was read from the disks without it.
async fn judge(node: Arc<Node>) {
    match node.groups.compare().await {
        Ok(differences) if differences.is_empty() => tracing::debug!("lvm sees the volume groups as they were read"),
        Ok(differences) => {
            for difference in differences {
                tracing::error!(difference, "lvm sees a volume group otherwise");
            }
        }
        Err(error) => tracing::error!(%error, "could not ask lvm for the volume groups"),
    }
}
