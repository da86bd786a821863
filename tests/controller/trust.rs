//! How long a connection lasts, and what those can do who are not the controller.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use quarry::controller::membership::Member;
use quarry::csi::server::ConnectionLimits;
use quarry::csi::v1::ControllerGetVolumeRequest;
use quarry::tls::authority::{Keyring, Lifetimes, renewed};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tonic::Code;

use crate::cluster::{Cluster, DRIVER, keyring, material, request_on};

fn get() -> ControllerGetVolumeRequest {
    ControllerGetVolumeRequest { volume_id: "node-1/none".into() }
}

/// Trusts the authorities of both, and shows what the first has.
fn both(one: &Keyring, other: &Keyring) -> Keyring {
    let authorities = [one.authorities.clone(), other.authorities.clone()].concat();
    Keyring { authorities, ..one.clone() }
}

#[tokio::test]
async fn a_connection_made_under_an_authority_ends_when_a_node_does_not_trust_that_any_more() {
    let cluster = Cluster::start(1).await;
    let (old, new) = (&cluster.keyring, keyring());
    let mut client = cluster.client(0).await;
    assert_eq!(client.controller_get_volume(get()).await.unwrap_err().code(), Code::NotFound);
    let node = &cluster.nodes[0].material;
    node.send_replace(Some(material(&both(old, &new), &old.node)));
    assert_eq!(client.controller_get_volume(get()).await.unwrap_err().code(), Code::NotFound, "it is trusted still");
    node.send_replace(Some(material(&new, &new.node)));
    let status = client.controller_get_volume(get()).await.unwrap_err();
    assert_ne!(status.code(), Code::NotFound, "{status:?}");
}

#[tokio::test]
async fn a_controller_uses_no_connection_that_was_made_with_other_certificates() {
    let cluster = Cluster::start(1).await;
    let (old, new) = (&cluster.keyring, keyring());
    cluster.nodes[0].material.send_replace(Some(material(&both(old, &new), &old.node)));
    assert_eq!(cluster.get("node-1/none").await.unwrap_err().code(), Code::NotFound);
    // The node shows still what the old authority signed.
    cluster.material.send_replace(Some(material(&new, &new.controller)));
    assert_eq!(cluster.get("node-1/none").await.unwrap_err().code(), Code::Unavailable);
    cluster.nodes[0].material.send_replace(Some(material(&both(&new, old), &new.node)));
    cluster.controller.router.connections().close_idle(Duration::ZERO);
    assert_eq!(cluster.get("node-1/none").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_renewed_certificate_of_the_same_authority_costs_no_call_under_way() {
    let cluster = Cluster::start(1).await;
    cluster.nodes[0].bench.hang_effects_with(Some("lvcreate"));
    let renewed = {
        let authorities = cluster.keyring.authorities.clone();
        let before = Keyring { authorities, ..Keyring::default() };
        renewed(&before, DRIVER, &Lifetimes::default(), SystemTime::now()).unwrap()
    };
    let renewing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.material.send_replace(Some(material(&renewed, &renewed.controller)));
        cluster.nodes[0].material.send_replace(Some(material(&renewed, &renewed.node)));
        assert_eq!(cluster.get("node-1/none").await.unwrap_err().code(), Code::NotFound);
        cluster.nodes[0].bench.hang_effects_with(None);
    };
    let (created, ()) = tokio::join!(cluster.create(request_on("pvc-1", 1, &["node-1"])), renewing);
    created.unwrap();
}

#[tokio::test]
async fn a_node_ends_connections_that_are_old() {
    let limits = ConnectionLimits { oldest: Duration::from_millis(100), ..ConnectionLimits::default() };
    let cluster = Cluster::start_with(1, limits).await;
    let mut client = cluster.client(0).await;
    let begun = Instant::now();
    while client.controller_get_volume(get()).await.unwrap_err().code() == Code::NotFound {
        assert!(begun.elapsed() < Duration::from_secs(10), "it goes on for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(100));
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_controller_makes_another_connection_before_a_node_ends_the_old_one() {
    let cluster = Cluster::start(1).await;
    let connections = async || {
        assert_eq!(cluster.get("node-1/none").await.unwrap_err().code(), Code::NotFound);
        cluster.nodes[0].accepted.load(Ordering::Relaxed)
    };
    assert_eq!((connections().await, connections().await), (1, 1));
    pass(ConnectionLimits::default().oldest / 2).await;
    let begun = Instant::now();
    while connections().await < 2 {
        assert!(begun.elapsed() < Duration::from_secs(10), "there is no other one");
    }
    for _ in 0..10 {
        assert_eq!(connections().await, 2);
    }
}

#[tokio::test]
async fn no_call_waits_for_the_connection_that_follows_an_old_one() {
    let cluster = Cluster::start(1).await;
    // The node is reached once, and answers to no other connection.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Some(listener.local_addr().unwrap().to_string());
    cluster.know([Member { name: "node-1".into(), address }], true);
    let node = cluster.nodes[0].address;
    let between = tokio::spawn(async move {
        let (mut controller, _) = listener.accept().await.unwrap();
        let mut node = TcpStream::connect(node).await.unwrap();
        let between = tokio::io::copy_bidirectional(&mut controller, &mut node);
        let (between, _silent) = tokio::join!(between, listener.accept());
        between
    });
    assert!(is_answered_at_once(&cluster).await);
    pass(ConnectionLimits::default().oldest / 2).await;
    assert!(is_answered_at_once(&cluster).await && is_answered_at_once(&cluster).await);
    // The node may be about to end the old one.
    pass(ConnectionLimits::default().oldest * 9 / 20).await;
    assert!(!is_answered_at_once(&cluster).await, "a call went out over a connection that is too old");
    between.abort();
}

#[tokio::test]
async fn a_client_that_does_not_say_who_it_is_is_let_go() {
    let cluster = Cluster::start(1).await;
    let mut stream = TcpStream::connect(cluster.nodes[0].address).await.unwrap();
    let begun = Instant::now();
    stream.read_to_end(&mut Vec::new()).await.ok();
    let took = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

/// So many connections from each address of 127.0.0.0/8 that ends so; they stay and say nothing.
async fn silent(cluster: &Cluster, hosts: impl IntoIterator<Item = u8>, count: usize) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for host in hosts {
        for _ in 0..count {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, host], 0).into()).unwrap();
            silent.push(socket.connect(cluster.nodes[0].address).await.unwrap());
        }
    }
    silent
}

async fn is_answered_at_once(cluster: &Cluster) -> bool {
    let begun = Instant::now();
    let code = cluster.get("node-1/none").await.unwrap_err().code();
    // Below the two seconds after which the silent ones are let go.
    code == Code::NotFound && begun.elapsed() < Duration::from_millis(1_900)
}

#[tokio::test]
async fn one_address_cannot_keep_the_controller_out() {
    let cluster = Cluster::start(1).await;
    let _silent = silent(&cluster, [2], 200).await;
    assert!(is_answered_at_once(&cluster).await);
}

#[tokio::test]
async fn the_controllers_own_address_cannot_keep_it_out() {
    let cluster = Cluster::start(1).await;
    let _silent = silent(&cluster, [1], 200).await;
    assert!(is_answered_at_once(&cluster).await);
}

#[tokio::test]
async fn many_addresses_together_cannot_keep_the_controller_out() {
    let cluster = Cluster::start(1).await;
    let _silent = silent(&cluster, 2..18, 8).await;
    assert!(is_answered_at_once(&cluster).await);
}
