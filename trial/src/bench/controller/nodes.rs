//! Thousands of nodes in this process: the services and the TLS of `quarry node --listen`, over machines in memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use quarry::config::classes::Classes;
use quarry::config::watch::ClassesInForce;
use quarry::csi::observe::ObserveLayer;
use quarry::csi::server::{ConnectionLimits, Server};
use quarry::lvm::backup::Backups;
use quarry::lvm::tags::VolumeTags;
use quarry::lvm::volume_id::VolumeId;
use quarry::node::{Identity, Node, remote};
use quarry::telemetry::{Gauges, Metrics};
use quarry::tls::{InForce, folder, server};
use quarry_fake::machine::Machine;
use quarry_fake::seat::{Bench, Seat};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The driver's name.
pub(super) const DRIVER: &str = "lvm.quarry.storage";
/// 127.1.0.0; each node has an address of its own from here on.
const FIRST_ADDRESS: u32 = 0x7F01_0000;
/// Longer than any measurement: nobody renews these certificates.
const CERTIFICATES_EVERY: Duration = Duration::from_hours(24);

/// The nodes.
pub(super) struct Nodes {
    /// Their names, in order, and where they are.
    pub(super) addresses: Vec<(String, SocketAddr)>,
    /// All of them count into the same metrics.
    metrics: Arc<Metrics>,
}

/// How many calls of a kind were served, and how long that took, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    calls: f64,
    seconds: f64,
}

/// What all nodes share, to save memory and files that are looked at; on machines each has its own.
struct Shared {
    classes: Arc<ClassesInForce>,
    material: InForce,
    metrics: Arc<Metrics>,
}

impl Nodes {
    /// Starts so many, each with so many volumes and room for `room` in all.
    pub(super) async fn start(count: usize, volumes: usize, room: usize, certificates: &Path) -> Result<Self> {
        let shared = Shared {
            classes: Arc::new(ClassesInForce::fixed(
                Classes::single(&[String::from("vg")]).map_err(anyhow::Error::msg)?,
            )),
            material: folder::watch(certificates.to_owned(), CERTIFICATES_EVERY, CancellationToken::new()).await,
            metrics: Arc::new(Metrics::new()),
        };
        let mut addresses = Vec::with_capacity(count);
        for (number, host) in (FIRST_ADDRESS..).take(count).enumerate() {
            let name = format!("node-{number:05}");
            let listener = TcpListener::bind((Ipv4Addr::from_bits(host), 0)).await?;
            addresses.push((name.clone(), listener.local_addr()?));
            let names = (0..volumes).map(|volume| name_of_volume(number, volume));
            shared.start(name, Machine::plain(room, names.map(|name| (name.clone(), tags(name)))), listener);
        }
        Ok(Self { addresses, metrics: shared.metrics })
    }

    /// The name of a node, which is its topology value too.
    pub(super) fn name(&self, number: usize) -> &str {
        &self.addresses[number].0
    }

    /// The ids of the volumes that there are from the start, in the order of a list.
    pub(super) fn volume_ids(&self, volumes: usize) -> impl Iterator<Item = String> {
        (0..self.addresses.len()).flat_map(move |number| {
            (0..volumes).map(move |volume| {
                let logical_volume = name_of_volume(number, volume);
                VolumeId { node: self.name(number).to_owned(), logical_volume }.to_string()
            })
        })
    }

    /// What the nodes' metrics say of such calls that ended well.
    pub(super) fn served(&self, method: &str) -> Result<Served> {
        let text = self.metrics.encode(&Gauges::default())?;
        let value = |name: &str| {
            let series = format!("quarry_csi_call_seconds_{name}{{method=\"{method}\",code=\"OK\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or_default()
        };
        Ok(Served { calls: value("count"), seconds: value("sum") })
    }

    /// How long the nodes served the one call since then. It counts when its answer has left, which the caller may see
    /// a moment earlier.
    pub(super) async fn served_since(&self, method: &str, before: Served) -> Result<Duration> {
        loop {
            let now = self.served(method)?;
            if now.calls > before.calls {
                return Duration::try_from_secs_f64(now.seconds - before.seconds).context("a sum went down");
            }
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
    }
}

impl Shared {
    /// Without the reaper: it has no deletion to do here, and thousands looking for one at the same time would take the
    /// processors that they do not share in a cluster.
    fn start(&self, name: String, machine: Machine, listener: TcpListener) {
        let seat = Arc::new(Seat::new(&Bench::over(machine)));
        let identity = Identity { driver: DRIVER.into(), topology: name.clone(), name, max_volumes: 0 };
        let (detached, stop) = (TaskTracker::new(), CancellationToken::new());
        let backups = Backups::in_folder("/nonexistent");
        let (classes, commands) = (Arc::clone(&self.classes), Arc::<Seat>::clone(&seat));
        let node = Node::new(identity, classes, commands, seat, backups, detached.clone(), stop.clone());
        let incoming = server::accept(listener, self.material.clone(), DRIVER, stop.clone());
        let observe = ObserveLayer::new(Arc::clone(&self.metrics));
        let server =
            Server { observe, stop, detached, grace: Duration::ZERO, limits: Some(ConnectionLimits::default()) };
        tokio::spawn(server.serve(remote::routes(&node), incoming));
    }
}

fn name_of_volume(node: usize, volume: usize) -> String {
    format!("pvc-{node:08x}-0000-4000-8000-{volume:012x}")
}

fn tags(name: String) -> Vec<String> {
    VolumeTags { name, class: "default".into(), fresh: true, ..VolumeTags::default() }.to_tags()
}
