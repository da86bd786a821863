//! Attempts to connect to one node. A node that drops packets takes seconds to fail; those who call it meanwhile share
//! that attempt, and those who come soon after it are told the same at once.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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
    pub(super) fn new(address: String, driver: String, material: InForce) -> Self {
        Self { address, driver, material, failed: Mutex::default() }
    }

    /// A connection to the node, or why there is none. Whoever calls sees to it that this is done once at a time.
    pub(super) async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        self.recent_failure()?;
        let outcome = client::connect(&self.address, &self.material, &self.driver).await;
        let at = Instant::now();
        let failed = outcome.as_ref().err().map(|error| Failed { at, kind: error.kind(), words: error.to_string() });
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        outcome
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
