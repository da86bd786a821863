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
        TlsConnector::from(Arc::new(configuration(&material)?)).connect(name, stream).await
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECTING.as_secs()));
    timeout(CONNECTING, connecting).await.map_err(|_| late())?
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
