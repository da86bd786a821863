//! The controller's end: connections to nodes, and to nobody else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;

use super::material::Material;
use super::{InForce, Role};

/// How long a node may take to answer to a connection; one in the same cluster takes milliseconds.
const CONNECTING: Duration = Duration::from_secs(5);

/// Makes a connection to the node at `HOST:PORT`.
pub async fn connect(address: &str, material: &InForce, driver: &str) -> io::Result<TlsStream<TcpStream>> {
    let material = material.borrow().clone();
    let material = material.ok_or_else(|| io::Error::other("the controller has no certificates yet"))?;
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(Role::Node.name(driver)).map_err(io::Error::other)?;
        let greeted = TlsConnector::from(Arc::new(configuration(&material)?)).connect(name, stream).await;
        greeted.map_err(explained)
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECTING.as_secs()));
    timeout(CONNECTING, connecting).await.map_err(|_| late())?
}

/// A node that has no certificates hangs up without a word.
fn explained(error: io::Error) -> io::Error {
    if !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
        return error;
    }
    let problem = "it hung up in the TLS handshake: it has no certificates yet (kubelet brings them within a minute or two) \
                   or it is no node";
    io::Error::new(error.kind(), problem)
}

fn configuration(material: &Material) -> io::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let builder = builder.with_root_certificates(material.authorities.clone());
    let configured = builder.with_client_auth_cert(material.chain.clone(), material.key.clone_key());
    let mut configuration = configured.map_err(io::Error::other)?;
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    // Nodes resume nothing (`server`), and an empty store of sessions takes 15 KiB, for every connection.
    configuration.resumption = Resumption::disabled();
    Ok(configuration)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::super::authority::{Keyring, Lifetimes, renewed};
    use super::super::server::accept;
    use super::*;

    const DRIVER: &str = "lvm.quarry.storage";

    #[tokio::test]
    async fn a_node_without_certificates_is_told_as_such() {
        let ring = renewed(&Keyring::default(), DRIVER, &Lifetimes::default(), SystemTime::now()).unwrap();
        let (trusted, shown) = (ring.trusted(), ring.controller);
        let material = Material::parse(trusted.as_bytes(), shown.certificate.as_bytes(), shown.key.as_bytes()).unwrap();
        let (_controller, controller) = watch::channel(Some(Arc::new(material)));
        let (_node, node) = watch::channel(None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let _accepted = accept(listener, node, DRIVER, CancellationToken::new());
        let error = connect(&address, &controller, DRIVER).await.unwrap_err();
        assert!(error.to_string().contains("it has no certificates yet"), "{error}");
    }
}
