//! Serving gRPC until told to stop, and ending well.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::Connected;

use super::observe::ObserveLayer;

/// What a server needs beside its services and its socket. Several may share one.
#[derive(Clone, Debug)]
pub struct Server {
    pub observe: ObserveLayer,
    /// Cancelled when the process is to end.
    pub stop: CancellationToken,
    /// The mutations that go on when their callers are gone.
    pub detached: TaskTracker,
    /// How long calls in flight and detached mutations may take after the stop.
    pub grace: Duration,
    /// What is done about connections over a network.
    pub limits: Option<ConnectionLimits>,
}

/// What keeps connections over a network from outliving those who made them.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// How old a connection may be before its client is asked to make another one; calls under way end on it. A
    /// controller makes another one by itself before that.
    pub oldest: Duration,
    /// How often a client is asked whether it is still there, and how long it may take to say so.
    pub still_there: (Duration, Duration),
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { oldest: Duration::from_mins(10), still_there: (Duration::from_secs(20), Duration::from_secs(10)) }
    }
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every call was answered and every mutation is finished.
    Drained,
    /// The grace period was over first. The tasks may still run: an LVM command must not be killed half-way.
    GracePeriodOver { detached: usize },
}

impl Server {
    /// Serves on the connections of `incoming`: of a unix socket, or of TLS over TCP.
    ///
    /// After the stop nobody is accepted any more; clients without a call in flight do not delay the end.
    pub async fn serve<Incoming, Connection, AcceptError>(
        self,
        routes: Routes,
        incoming: Incoming,
    ) -> Result<End, tonic::transport::Error>
    where
        Incoming: Stream<Item = Result<Connection, AcceptError>>,
        Connection: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        AcceptError: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { observe, stop, detached, grace, limits } = self;
        let mut server = tonic::transport::Server::builder();
        if let Some(ConnectionLimits { oldest, still_there: (interval, limit) }) = limits {
            server = server
                .max_connection_age(oldest)
                .http2_keepalive_interval(Some(interval))
                .http2_keepalive_timeout(Some(limit));
        }
        let serving = server
            .layer(observe)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let drain = async {
            serving.await?;
            // Only now: a call in flight may have started one more mutation.
            detached.close();
            detached.wait().await;
            Ok(End::Drained)
        };
        // tonic alone would wait for ever for a call that never ends.
        let grace_period = async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            end = drain => end,
            () = grace_period => {
                let detached = detached.len();
                tracing::warn!(detached, ?grace, "stopping with work unfinished");
                Ok(End::GracePeriodOver { detached })
            }
        }
    }
}
