//! A connection that lasts only as long as its client is trusted.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::InForce;
use super::server::check_client;

/// How long a connection may last at most. The server asks clients much earlier to make another one
/// (`csi::server`); what is not over by now is not waited for any more.
const LONGEST: Duration = Duration::from_mins(20);

/// A connection of the controller. Its reads fail when its certificate is not worth anything any more.
pub struct Trusted {
    stream: TlsStream<TcpStream>,
    /// Ends when the trust does; `None` afterwards.
    trust: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Trusted {
    /// Of a client that showed that chain and is trusted now. The material is what has been looked at for that.
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        material: InForce,
        client: String,
        chain: Vec<CertificateDer<'static>>,
    ) -> Self {
        let trust = async move {
            if timeout(LONGEST, distrust(material, &client, &chain)).await.is_ok() {
                tracing::info!(client, "closed a connection: what its client showed is not trusted any more");
            }
        };
        Self { stream, trust: Some(Box::pin(trust)) }
    }
}

/// Waits until the material does not trust the client any more.
async fn distrust(mut material: InForce, client: &str, chain: &[CertificateDer<'static>]) {
    while material.changed().await.is_ok() {
        let now = material.borrow_and_update().clone();
        if now.is_none_or(|now| check_client(&now, client, chain).is_err()) {
            return;
        }
    }
    // Nobody changes it any more.
    pending::<()>().await;
}

impl AsyncRead for Trusted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever serves a connection is always waiting for what comes next, so this is looked at in time.
        if self.trust.as_mut().is_none_or(|trust| trust.as_mut().poll(context).is_ready()) {
            self.trust = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Trusted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Trusted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
