//! A connection to one node: HTTP/2 with nothing around it. There may be thousands, and a `tonic` channel with its queue and
//! its worker would take 13 KiB more for each.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Mutex;
use tonic::ConnectError;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{Request, Response};
use tower::Service;

use super::attempts::Attempts;

/// How often a node is asked whether it is still there, and how long it may take to say so. Also between calls: the next
/// one must not be the first to find out.
const STILL_THERE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Bytes of headers that a node may answer with. Most of it is the message of an error, and nodes of other versions may
/// write longer ones than ours.
const HEADERS_LIMIT: u32 = 256 << 10;

/// A connection; it is made by the first call, and by the first one after it broke. It ends with the last clone.
#[derive(Clone)]
pub struct Connection(Arc<State>);

struct State {
    attempts: Attempts,
    sender: Mutex<Option<SendRequest<Body>>>,
}

impl Connection {
    /// To the node that is attempted.
    pub(super) fn new(attempts: Attempts) -> Self {
        Self(Arc::new(State { attempts, sender: Mutex::default() }))
    }

    /// Makes it now, unless it is made already.
    pub(super) async fn make(&self) -> io::Result<()> {
        self.sender().await.map(drop)
    }

    async fn sender(&self) -> io::Result<SendRequest<Body>> {
        if let Ok(sender) = self.0.sender.try_lock()
            && let Some(sender) = usable(sender.as_ref())
        {
            return Ok(sender);
        }
        // A task, so that a caller who gives up does not end what others wait for.
        tokio::spawn(Arc::clone(&self.0).connected()).await.map_err(io::Error::other)?
    }
}

impl State {
    /// Those who come while a connection is being made wait for it.
    async fn connected(self: Arc<Self>) -> io::Result<SendRequest<Body>> {
        let mut kept = self.sender.lock().await;
        if let Some(sender) = usable(kept.as_ref()) {
            return Ok(sender);
        }
        let stream = self.attempts.connect().await?;
        let (interval, limit) = STILL_THERE;
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(interval)
            .keep_alive_timeout(limit)
            .keep_alive_while_idle(true)
            .max_header_list_size(HEADERS_LIMIT)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a node ended");
            }
        });
        *kept = Some(sender.clone());
        Ok(sender)
    }
}

fn usable(sender: Option<&SendRequest<Body>>) -> Option<SendRequest<Body>> {
    sender.filter(|sender| !sender.is_closed()).cloned()
}

impl Service<Request<Body>> for Connection {
    type Response = Response<hyper::body::Incoming>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = self.clone();
        Box::pin(async move {
            let mut sender = connection.sender().await.map_err(|error| ConnectError(error.into()))?;
            Ok(sender.send_request(request).await?)
        })
    }
}
