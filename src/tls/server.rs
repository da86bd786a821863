//! A node's end: connections of the controller, and of nobody else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use webpki::EndEntityCert;

use super::material::Material;
use super::places::Places;
use super::refusals::Refusals;
use super::trusted::Trusted;
use super::{InForce, Role};

/// How long a client may take to show who it is; one in the same cluster takes milliseconds.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// The pause after the system could not accept, such as for want of descriptors.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The connections of clients that are the controller. While there is no material, nobody is.
pub fn accept(
    listener: TcpListener,
    material: InForce,
    driver: &str,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Trusted>> {
    let (sender, receiver) = mpsc::channel(1);
    let client = Role::Controller.name(driver);
    let (refusals, failures) = (Arc::new(Refusals::default()), Refusals::default());
    let mut places = Places::default();
    tokio::spawn(async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    failures.tell_failure(&error);
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            let greeting = timeout(HANDSHAKE, greet(stream, material.clone(), client.clone()));
            let greeting = tokio::spawn({
                let (sender, refusals) = (sender.clone(), Arc::clone(&refusals));
                async move {
                    match greeting.await {
                        Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
                        Ok(Err(error)) => refusals.tell(address, error),
                        Err(_) => refusals.tell(address, "the client did not say who it is"),
                    }
                }
            });
            if let Some(address) = places.take(address, greeting.abort_handle()) {
                refusals.tell(address, "the client did not say who it is before too many others came");
            }
        }
    });
    ReceiverStream::new(receiver)
}

async fn greet(stream: TcpStream, mut material: InForce, client: String) -> io::Result<Trusted> {
    let now = material.borrow_and_update().clone();
    let now = now.ok_or_else(|| io::Error::other("there are no certificates yet"))?;
    stream.set_nodelay(true)?;
    let stream = TlsAcceptor::from(Arc::new(configuration(&now)?)).accept(stream).await?;
    let (_, connection) = stream.get_ref();
    let chain: Vec<_> = connection.peer_certificates().unwrap_or_default().to_vec();
    check_client(&now, &client, &chain)?;
    Ok(Trusted::new(stream, material, client, chain))
}

/// Whether a chain of certificates is the client's, and trusted.
pub(super) fn check_client(material: &Material, client: &str, chain: &[CertificateDer<'_>]) -> io::Result<()> {
    let shown = chain.split_first().ok_or_else(|| io::Error::other("the client showed no certificate"))?;
    let (certificate, intermediates) = shown;
    let verified = verifier(material)?.verify_client_cert(certificate, intermediates, UnixTime::now());
    verified.map_err(io::Error::other)?;
    let name = ServerName::try_from(client).map_err(io::Error::other)?;
    let certificate = EndEntityCert::try_from(certificate).map_err(io::Error::other)?;
    let is_client = certificate.verify_is_valid_for_subject_name(&name);
    is_client.map_err(|_| io::Error::other(format!("the client's certificate is not of {client}")))
}

fn verifier(material: &Material) -> io::Result<Arc<dyn ClientCertVerifier>> {
    let (authorities, provider) = (Arc::new(material.authorities.clone()), Arc::new(ring::default_provider()));
    WebPkiClientVerifier::builder_with_provider(authorities, provider).build().map_err(io::Error::other)
}

fn configuration(material: &Material) -> io::Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.with_client_cert_verifier(verifier(material)?);
    let configured = builder.with_single_cert(material.chain.clone(), material.key.clone_key());
    let mut configuration = configured.map_err(io::Error::other)?;
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the look at who the client is now.
    configuration.session_storage = Arc::new(tokio_rustls::rustls::server::NoServerSessionStorage {});
    configuration.send_tls13_tickets = 0;
    Ok(configuration)
}
