//! Attempts to connect to one node. A node that drops packets takes seconds to fail; those who call it meanwhile share
//! that attempt, and those who come soon after it are told the same at once.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::tls::{InForce, client};

/// How long a failure counts.
const FAILURE_COUNTS: Duration = Duration::from_secs(2);

/// The attempts to connect to one node.
pub(super) struct Attempts {
    address: String,
    driver: String,
    material: InForce,
    failed: Mutex<Option<Failed>>,
}

/// The last attempt, if it failed.
struct Failed {
    at: Instant,
    kind: io::ErrorKind,
    words: String,
}

impl Attempts {
    /// None yet.
    pub(super) fn new(address: String, driver: String, material: InForce) -> Arc<Self> {
        Arc::new(Self { address, driver, material, failed: Mutex::default() })
    }

    /// A connection to the node, or why there is none.
    pub(super) async fn connect(self: Arc<Self>) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        loop {
            self.recent_failure()?;
            // A task, since callers that give up stop asking for the outcome, and time would run out unused.
            let attempt = tokio::spawn(Arc::clone(&self).attempt());
            let (outcome, ended) = attempt.await.map_err(io::Error::other)?;
            // A connection that nobody came for in time may have been closed by the node meanwhile.
            if ended.elapsed() < FAILURE_COUNTS {
                return outcome.map(TokioIo::new);
            }
        }
    }

    async fn attempt(self: Arc<Self>) -> (io::Result<TlsStream<TcpStream>>, Instant) {
        let outcome = client::connect(&self.address, &self.material, &self.driver).await;
        let at = Instant::now();
        let failed = outcome.as_ref().err().map(|error| Failed { at, kind: error.kind(), words: error.to_string() });
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        (outcome, at)
    }

    fn recent_failure(&self) -> io::Result<()> {
        match &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Failed { at, kind, words }) if at.elapsed() < FAILURE_COUNTS => {
                Err(io::Error::new(*kind, format!("{words}, {} ms ago", at.elapsed().as_millis())))
            }
            _ => Ok(()),
        }
    }
}
