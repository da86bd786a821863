//! Some nodes, and a controller that knows them.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use quarry::config::classes::Classes;
use quarry::config::driver_name::topology_key;
use quarry::config::watch::ClassesInForce;
use quarry::controller::connections::Connections;
use quarry::controller::controller_service::ControllerService;
use quarry::controller::membership::{Member, Nodes};
use quarry::controller::router::Router;
use quarry::csi::observe::ObserveLayer;
use quarry::csi::server::{ConnectionLimits, Server};
use quarry::csi::v1;
use quarry::csi::v1::controller_client::ControllerClient;
use quarry::csi::v1::controller_server::Controller as _;
use quarry::csi::v1::volume_capability::access_mode::Mode;
use quarry::csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume};
use quarry::lvm::backup::Backups;
use quarry::node::{Identity, Node, remote};
use quarry::telemetry::Metrics;
use quarry::tls::authority::{Keyring, Lifetimes, Pair, renewed};
use quarry::tls::material::Material;
use quarry::tls::{client, server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use tower::service_fn;

use quarry_fake::disk_format::EXTENT;
use quarry_fake::seat::{Bench, Seat};

pub(crate) const DRIVER: &str = "lvm.quarry.storage";
/// How long a node must be gone before its volumes are.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(2);

pub(crate) type Sender = watch::Sender<Option<Arc<Material>>>;

pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) bench: Arc<Bench>,
    pub(crate) material: Sender,
    /// How many connections it took.
    pub(crate) accepted: Arc<AtomicUsize>,
    stop: CancellationToken,
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Running>,
    pub(crate) controller: ControllerService,
    pub(crate) material: Sender,
    pub(crate) membership: watch::Sender<Arc<Nodes>>,
    pub(crate) keyring: Keyring,
}

pub(crate) fn keyring() -> Keyring {
    renewed(&Keyring::default(), DRIVER, &Lifetimes::default(), SystemTime::now()).unwrap()
}

/// What the owner of the pair shows, trusting those of the keyring.
pub(crate) fn material(trusting: &Keyring, shown: &Pair) -> Arc<Material> {
    let trusted = trusting.trusted();
    Arc::new(Material::parse(trusted.as_bytes(), shown.certificate.as_bytes(), shown.key.as_bytes()).unwrap())
}

impl Running {
    pub(crate) async fn start(name: &str, shown: Arc<Material>, limits: ConnectionLimits) -> Self {
        let bench = Bench::new(None);
        let seat = Arc::new(Seat::new(&bench));
        let classes = Classes::parse(
            "classes:\n- {name: fast, default: true, volumeGroups: [vg]}\n- {name: other, volumeGroups: [vg-2]}\n",
            quarry::host::check_options,
        );
        let classes = Arc::new(ClassesInForce::fixed(classes.unwrap()));
        let identity = Identity { driver: DRIVER.into(), name: name.into(), topology: name.into(), max_volumes: 0 };
        let (detached, backups) = (TaskTracker::new(), Backups::in_folder("/nonexistent"));
        let (commands, stop) = (Arc::<Seat>::clone(&seat), CancellationToken::new());
        let node = Node::new(identity, classes, commands, seat, backups, detached.clone(), stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = watch::channel(Some(shown));
        let accepted = Arc::new(AtomicUsize::new(0));
        let incoming = server::accept(listener, receiver, DRIVER, stop.clone()).inspect({
            let accepted = Arc::clone(&accepted);
            move |_| {
                accepted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let observe = ObserveLayer::new(Arc::new(Metrics::new()));
        let serving = Server { observe, stop: stop.clone(), detached, grace: Duration::ZERO, limits: Some(limits) };
        tokio::spawn(serving.serve(remote::routes(&node), incoming));
        Self { name: name.into(), address, bench, material: sender, accepted, stop }
    }

    pub(crate) fn member(&self) -> Member {
        Member { name: self.name.clone(), address: Some(self.address.to_string()) }
    }
}

impl Cluster {
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, ConnectionLimits::default()).await
    }

    pub(crate) async fn start_with(count: usize, limits: ConnectionLimits) -> Self {
        let keyring = keyring();
        let mut nodes = Vec::new();
        for number in 1..=count {
            let name = format!("node-{number}");
            let node = Running::start(&name, material(&keyring, &keyring.node), limits).await;
            // Volumes of different machines have different UUIDs.
            let mut machine = node.bench.machine();
            (0..number * 1_000).for_each(|_| _ = machine.number());
            drop(machine);
            nodes.push(node);
        }
        let known = Nodes::named(nodes.iter().map(Running::member));
        let (membership, known) = watch::channel(Arc::new(known));
        let (sender, receiver) = watch::channel(Some(material(&keyring, &keyring.controller)));
        let connections = Connections::new(DRIVER.into(), receiver);
        let router = Arc::new(Router::new(known, connections, LOST_AFTER));
        tokio::spawn({
            let router = Arc::clone(&router);
            async move { router.follow(CancellationToken::new()).await }
        });
        let controller =
            ControllerService { router, topology_key: topology_key(DRIVER), given_up: None, selected_node: None };
        Self { nodes, controller, material: sender, membership, keyring }
    }

    /// A connection to a node that the test keeps, with what the controller shows now; its calls do not say which node
    /// they mean, as those of an older controller.
    pub(crate) async fn client(&self, node: usize) -> ControllerClient<Channel> {
        let (address, material) = (self.nodes[node].address.to_string(), self.material.subscribe());
        let stream = client::connect(&address, &material, DRIVER).await.unwrap();
        let mut stream = Some(TokioIo::new(stream));
        let once = service_fn(move |_: Uri| ready(stream.take().ok_or_else(|| io::Error::other("is closed"))));
        ControllerClient::new(Endpoint::from_static("http://node").connect_with_connector(once).await.unwrap())
    }

    /// A node as one that drops packets: connections to it come to be, and then nothing comes. The listener takes none.
    pub(crate) async fn know_silent_node(&self, name: &str) -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Some(listener.local_addr().unwrap().to_string());
        let silent = Member { name: name.into(), address };
        self.know(self.nodes.iter().map(Running::member).chain([silent]), true);
        listener
    }

    /// Ends a node: from now on nothing answers at its address.
    pub(crate) async fn end(&self, index: usize) {
        self.nodes[index].stop.cancel();
        while TcpStream::connect(self.nodes[index].address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Its process is this one, so connections that exist would go on.
        self.controller.router.connections().close_idle(Duration::ZERO);
    }

    /// Makes the known nodes other ones.
    pub(crate) fn know(&self, members: impl IntoIterator<Item = Member>, is_complete: bool) {
        let nodes = if is_complete { Nodes::all(members, []) } else { Nodes::named(members) };
        self.membership.send_replace(Arc::new(nodes));
    }

    pub(crate) async fn create(&self, request: v1::CreateVolumeRequest) -> Result<v1::Volume, Status> {
        Ok(self.controller.create_volume(Request::new(request)).await?.into_inner().volume.unwrap())
    }

    pub(crate) async fn delete(&self, volume_id: &str) -> Result<(), Status> {
        let request = v1::DeleteVolumeRequest { volume_id: volume_id.into(), ..Default::default() };
        self.controller.delete_volume(Request::new(request)).await.map(drop)
    }

    pub(crate) async fn get(&self, volume_id: &str) -> Result<v1::Volume, Status> {
        let request = v1::ControllerGetVolumeRequest { volume_id: volume_id.into() };
        Ok(self.controller.controller_get_volume(Request::new(request)).await?.into_inner().volume.unwrap())
    }
}

/// A topology that means that node.
pub(crate) fn on(node: &str) -> v1::Topology {
    v1::Topology { segments: [(topology_key(DRIVER), node.to_owned())].into() }
}

/// A request for a block volume of so many extents.
pub(crate) fn request(name: &str, extents: usize) -> v1::CreateVolumeRequest {
    let capability = v1::VolumeCapability {
        access_type: Some(AccessType::Block(BlockVolume {})),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
    };
    let required_bytes = i64::try_from(extents * EXTENT).unwrap();
    v1::CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(v1::CapacityRange { required_bytes, limit_bytes: 0 }),
        volume_capabilities: vec![capability],
        ..v1::CreateVolumeRequest::default()
    }
}

/// The same, preferring those nodes in this order.
pub(crate) fn request_on(name: &str, extents: usize, nodes: &[&str]) -> v1::CreateVolumeRequest {
    let topologies: Vec<_> = nodes.iter().map(|node| on(node)).collect();
    let requirement = v1::TopologyRequirement { requisite: topologies.clone(), preferred: topologies };
    v1::CreateVolumeRequest { accessibility_requirements: Some(requirement), ..request(name, extents) }
}
