//! A connection to each node, made when it is needed, closed when it is idle, and made anew when it is old or certificates
//! change: what a node showed then may not be worth anything any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::attempts::Attempts;
use crate::tls::InForce;
use crate::tls::material::Material;

/// How long a connection may rest before it is closed.
pub const IDLE: Duration = Duration::from_mins(10);
/// How long new calls go over a connection. Nodes end those that are older (`csi::server::ConnectionLimits`), and a call
/// that is just about to go out on one would be lost.
const OLDEST: Duration = Duration::from_mins(5);
/// How often a node is asked whether it is still there, and how long it may take to say so. Also between calls: the next
/// one must not be the first to find out.
const STILL_THERE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Bytes of headers that a node may answer with. Most of it is the message of an error, and nodes of other versions may
/// write longer ones than ours.
const HEADERS_LIMIT: u32 = 256 << 10;

/// The connections of a controller.
pub struct Connections {
    driver: String,
    material: InForce,
    kept: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    channel: Channel,
    made: Instant,
    used: Instant,
    /// What was in force when it was made.
    material: Option<Arc<Material>>,
}

impl Kept {
    /// Whether it is good for new calls.
    fn is_good(&self, material: Option<&Arc<Material>>) -> bool {
        self.made.elapsed() < OLDEST && self.material.as_ref().map(Arc::as_ptr) == material.map(Arc::as_ptr)
    }
}

impl Connections {
    /// None yet.
    pub fn new(driver: String, material: InForce) -> Self {
        Self { driver, material, kept: Mutex::default() }
    }

    /// The connection to `HOST:PORT`; it is made by the first call.
    pub fn to(&self, address: &str) -> Channel {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, material) = (Instant::now(), self.material.borrow().clone());
        if let Some(kept) = kept.get_mut(address).filter(|kept| kept.is_good(material.as_ref())) {
            kept.used = now;
            return kept.channel.clone();
        }
        let channel = self.make(address.to_owned());
        kept.insert(address.to_owned(), Kept { channel: channel.clone(), made: now, used: now, material });
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
            .http2_max_header_list_size(HEADERS_LIMIT)
            .connect_with_connector_lazy(service_fn(move |_: Uri| Arc::clone(&attempts).connect()))
    }

    /// Closes those that nobody has used for so long, and those that no new call may use. Calls under way keep theirs
    /// until they end.
    pub fn close_idle(&self, idle: Duration) {
        let material = self.material.borrow().clone();
        let is_good = |kept: &Kept| kept.used.elapsed() < idle && kept.is_good(material.as_ref());
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, kept| is_good(kept));
    }
}
