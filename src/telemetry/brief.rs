//! Connections that do not last: those who connect may be strangers, and must not keep those out who are meant.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many connections there may be. When one more comes, the oldest goes: an honest one is soon done.
const MOST: usize = 32;
/// How long one may last.
const LONGEST: Duration = Duration::from_secs(10);

/// A listener whose connections are few and brief.
pub(super) struct Brief {
    listener: TcpListener,
    /// Cancelled ones have ended; the oldest comes first.
    connections: Vec<CancellationToken>,
}

impl Brief {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, connections: Vec::new() }
    }
}

impl Listener for Brief {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        self.connections.retain(|connection| !connection.is_cancelled());
        if self.connections.len() >= MOST {
            self.connections.remove(0).cancel();
        }
        let token = CancellationToken::new();
        self.connections.push(token.clone());
        (Connection::new(stream, token), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection. Nothing can be done with it after its end.
pub(super) struct Connection {
    stream: TcpStream,
    /// `None` after the end.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Cancels the token when nobody has the connection any more.
    _gone: DropGuard,
}

impl Connection {
    fn new(stream: TcpStream, token: CancellationToken) -> Self {
        let cancelled = token.clone().cancelled_owned();
        let end = Box::pin(async { timeout(LONGEST, cancelled).await.unwrap_or_default() });
        Self { stream, end: Some(end), _gone: token.drop_guard() }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.end.as_mut().is_none_or(|end| end.as_mut().poll(context).is_ready()) {
            self.end = None;
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
