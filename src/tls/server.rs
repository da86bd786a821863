//! A node's end: connections of the controller, and of nobody else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use webpki::EndEntityCert;

use super::material::Material;
use super::{InForce, Role};

/// How long a client may take to show who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many may be showing it at a time: whoever can reach the port can begin.
const HANDSHAKES: usize = 64;
/// The pause after the system refused to accept, such as for want of descriptors.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// The connections of clients that are the controller. While there is no material, nobody is.
pub fn accept(
    listener: TcpListener,
    material: InForce,
    driver: &str,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(1);
    let client = Role::Controller.name(driver);
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    tokio::spawn(async move {
        while let Some(Ok(place)) = stop.run_until_cancelled(Arc::clone(&places).acquire_owned()).await {
            let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else { break };
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(AFTER_REFUSAL).await;
                continue;
            };
            let (sender, material, client) = (sender.clone(), material.borrow().clone(), client.clone());
            tokio::spawn(async move {
                let _place = place;
                match timeout(HANDSHAKE, greet(stream, material, &client)).await {
                    Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
                    Ok(Err(error)) => tracing::warn!(%address, %error, "refused a connection"),
                    Err(_) => tracing::warn!(%address, "refused a connection: the client did not say who it is"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn greet(stream: TcpStream, material: Option<Arc<Material>>, client: &str) -> io::Result<TlsStream<TcpStream>> {
    let material = material.ok_or_else(|| io::Error::other("there are no certificates yet"))?;
    stream.set_nodelay(true)?;
    let stream = TlsAcceptor::from(Arc::new(configuration(&material)?)).accept(stream).await?;
    let (_, connection) = stream.get_ref();
    let shown = connection.peer_certificates().and_then(<[_]>::first);
    let shown = shown.ok_or_else(|| io::Error::other("the client showed no certificate"))?;
    let name = ServerName::try_from(client).map_err(io::Error::other)?;
    let certificate = EndEntityCert::try_from(shown).map_err(io::Error::other)?;
    let is_client = certificate.verify_is_valid_for_subject_name(&name);
    is_client.map_err(|_| io::Error::other(format!("the client's certificate is not of {client}")))?;
    Ok(stream)
}

fn configuration(material: &Material) -> io::Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let authorities = Arc::new(material.authorities.clone());
    let verifier = WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(&provider)).build();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.with_client_cert_verifier(verifier.map_err(io::Error::other)?);
    let configured = builder.with_single_cert(material.chain.clone(), material.key.clone_key());
    let mut configuration = configured.map_err(io::Error::other)?;
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the look at who the client is now.
    configuration.session_storage = Arc::new(tokio_rustls::rustls::server::NoServerSessionStorage {});
    configuration.send_tls13_tickets = 0;
    Ok(configuration)
}
