//! Who may speak to whom.

use std::time::{Duration, SystemTime};

use quarry::tls::authority::{Keyring, Lifetimes, renewed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::cluster::{Cluster, DRIVER, keyring, material, request_on};

/// Whether a call reaches the first node over a new connection.
async fn works(cluster: &Cluster) -> bool {
    cluster.controller.router.connections().close_idle(Duration::ZERO);
    match cluster.get("node-1/none").await.unwrap_err() {
        status if status.code() == Code::NotFound => true,
        status => {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            assert!(status.message().contains("node-1"), "{status:?}");
            false
        }
    }
}

#[tokio::test]
async fn a_client_that_is_not_the_controller_is_refused() {
    let cluster = Cluster::start(1).await;
    assert!(works(&cluster).await);
    let stranger = keyring();
    // Trusts the node, but shows what somebody else signed.
    cluster.material.send_replace(Some(material(&cluster.keyring, &stranger.controller)));
    assert!(!works(&cluster).await, "a self-made certificate");
    cluster.material.send_replace(Some(material(&cluster.keyring, &cluster.keyring.node)));
    assert!(!works(&cluster).await, "a node's certificate");
    let of_another_driver = Keyring { authorities: cluster.keyring.authorities.clone(), ..Keyring::default() };
    let of_another_driver =
        renewed(&of_another_driver, "other.example.org", &Lifetimes::default(), SystemTime::now()).unwrap();
    cluster.material.send_replace(Some(material(&cluster.keyring, &of_another_driver.controller)));
    assert!(!works(&cluster).await, "another driver's controller");
    cluster.material.send_replace(None);
    assert!(!works(&cluster).await, "no certificate at all");
    cluster.material.send_replace(Some(material(&cluster.keyring, &cluster.keyring.controller)));
    assert!(works(&cluster).await);
}

#[tokio::test]
async fn a_server_that_is_not_a_node_is_refused() {
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let stranger = keyring();
    node.material.send_replace(Some(material(&cluster.keyring, &stranger.node)));
    assert!(!works(&cluster).await, "a self-made certificate");
    node.material.send_replace(Some(material(&cluster.keyring, &cluster.keyring.controller)));
    assert!(!works(&cluster).await, "the controller's certificate");
    node.material.send_replace(None);
    assert!(!works(&cluster).await, "a node without certificates serves nobody");
    node.material.send_replace(Some(material(&cluster.keyring, &cluster.keyring.node)));
    assert!(works(&cluster).await);
}

#[tokio::test]
async fn a_request_without_tls_is_refused() {
    let cluster = Cluster::start(1).await;
    let mut stream = TcpStream::connect(cluster.nodes[0].address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    // At most an alert of TLS: never a frame of HTTP/2.
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    assert!(works(&cluster).await);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_a_renewed_one_accepted() {
    let cluster = Cluster::start(1).await;
    let brief = Lifetimes { leaf: Duration::from_secs(1), ..Lifetimes::default() };
    let before = Keyring { authorities: cluster.keyring.authorities.clone(), ..Keyring::default() };
    let long_ago = renewed(&before, DRIVER, &brief, SystemTime::now() - Duration::from_secs(3)).unwrap();
    cluster.material.send_replace(Some(material(&cluster.keyring, &long_ago.controller)));
    assert!(!works(&cluster).await, "an expired certificate");
    let now = renewed(&long_ago, DRIVER, &Lifetimes::default(), SystemTime::now()).unwrap();
    cluster.material.send_replace(Some(material(&cluster.keyring, &now.controller)));
    assert!(works(&cluster).await);
}

/// Authorities and certificates of seconds, renewed over and over while calls go on and everybody learns late.
#[tokio::test]
async fn renewal_and_a_change_of_authorities_break_no_call() {
    let cluster = Cluster::start(1).await;
    let lifetimes =
        Lifetimes { authority: Duration::from_secs(12), leaf: Duration::from_secs(6), spread: Duration::from_secs(1) };
    let mut ring = renewed(&Keyring::default(), DRIVER, &lifetimes, SystemTime::now()).unwrap();
    cluster.nodes[0].material.send_replace(Some(material(&ring, &ring.node)));
    cluster.material.send_replace(Some(material(&ring, &ring.controller)));
    cluster.create(request_on("pvc-1", 1, &["node-1"])).await.unwrap();
    let (first, begun) = (ring.clone(), SystemTime::now());
    while begun.elapsed().unwrap() < Duration::from_secs(14) {
        let next = renewed(&ring, DRIVER, &lifetimes, SystemTime::now()).unwrap();
        if next != ring {
            ring = next;
            cluster.material.send_replace(Some(material(&ring, &ring.controller)));
            assert!(works(&cluster).await, "the node has not learnt of it yet");
            tokio::time::sleep(Duration::from_millis(300)).await;
            cluster.nodes[0].material.send_replace(Some(material(&ring, &ring.node)));
        }
        assert!(works(&cluster).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!ring.authorities.contains(&first.authorities[0]), "no authority was replaced");
}
