//! A connection to each node, made when it is needed and closed when it is idle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::attempts::Attempts;
use crate::tls::InForce;

/// How long a connection may rest before it is closed.
pub const IDLE: Duration = Duration::from_mins(10);
/// How often a node is asked whether it is still there, and how long it may take to say so. Also between calls: the next
/// one must not be the first to find out.
const STILL_THERE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// The connections of a controller.
pub struct Connections {
    driver: String,
    material: InForce,
    kept: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    channel: Channel,
    used: Instant,
}

impl Connections {
    /// None yet.
    pub fn new(driver: String, material: InForce) -> Self {
        Self { driver, material, kept: Mutex::default() }
    }

    /// The connection to `HOST:PORT`; it is made by the first call.
    pub fn to(&self, address: &str) -> Channel {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(kept) = kept.get_mut(address) {
            kept.used = now;
            return kept.channel.clone();
        }
        let channel = self.make(address.to_owned());
        kept.insert(address.to_owned(), Kept { channel: channel.clone(), used: now });
        channel
    }

    fn make(&self, address: String) -> Channel {
        let (interval, limit) = STILL_THERE;
        let attempts = Attempts::new(address, self.driver.clone(), self.material.clone());
        // The connector does TLS and knows the address; this one only names the service in the requests.
        Endpoint::from(Uri::from_static("http://node"))
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(limit)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(service_fn(move |_: Uri| Arc::clone(&attempts).connect()))
    }

    /// Closes those that nobody has used for so long. Calls under way keep theirs until they end.
    pub fn close_idle(&self, idle: Duration) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, kept| kept.used.elapsed() < idle);
    }
}
