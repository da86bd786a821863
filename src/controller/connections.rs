//! A connection to each node, made when it is needed and closed when it is idle. One that is used is followed by a new one
//! before its node ends it; when certificates change, it ends at once: what a node showed then may not be worth anything
//! any more.

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
pub const IDLE: Duration = Duration::from_mins(5);
/// From this age on a connection that is used is replaced, while calls go over it still.
const OLD: Duration = Duration::from_mins(5);
/// From this age on no new call goes over it: a node is about to end it (`csi::server::ConnectionLimits`), and a call that
/// just goes out then would be lost.
const TOO_OLD: Duration = Duration::from_mins(9);
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
    kept: Arc<Mutex<HashMap<String, Kept>>>,
}

struct Kept {
    channel: Channel,
    made: Instant,
    used: Instant,
    /// What was in force when it was made.
    material: Option<Arc<Material>>,
    /// Whether the next one is being made.
    is_followed: bool,
}

impl Kept {
    fn new(channel: Channel, material: Option<Arc<Material>>) -> Self {
        let now = Instant::now();
        Self { channel, made: now, used: now, material, is_followed: false }
    }

    /// Whether it is good for new calls.
    fn is_good(&self, material: Option<&Arc<Material>>) -> bool {
        self.made.elapsed() < TOO_OLD && self.material.as_ref().map(Arc::as_ptr) == material.map(Arc::as_ptr)
    }
}

impl Connections {
    /// None yet.
    pub fn new(driver: String, material: InForce) -> Self {
        Self { driver, material, kept: Arc::default() }
    }

    /// The connection to `HOST:PORT`; the first one is made by the first call.
    pub fn to(&self, address: &str) -> Channel {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let material = self.material.borrow().clone();
        if let Some(kept) = kept.get_mut(address).filter(|kept| kept.is_good(material.as_ref())) {
            kept.used = Instant::now();
            if kept.made.elapsed() >= OLD && !kept.is_followed {
                kept.is_followed = true;
                self.follow(address.to_owned(), material);
            }
            return kept.channel.clone();
        }
        let attempts = self.attempts(address);
        let connector = service_fn(move |_: Uri| Arc::clone(&attempts).connect());
        let channel = endpoint().connect_with_connector_lazy(connector);
        kept.insert(address.to_owned(), Kept::new(channel.clone(), material));
        channel
    }

    /// Makes the next connection, so that no call has to wait for it.
    fn follow(&self, address: String, material: Option<Arc<Material>>) {
        let (attempts, kept) = (self.attempts(&address), Arc::clone(&self.kept));
        tokio::spawn(async move {
            let connector = service_fn(move |_: Uri| Arc::clone(&attempts).connect());
            let connected = endpoint().connect_with_connector(connector).await;
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have been closed meanwhile, or be another one since certificates changed.
            let Some(kept) = kept.get_mut(&address).filter(|kept| kept.is_followed) else { return };
            match connected {
                Ok(channel) => *kept = Kept::new(channel, material),
                Err(_) => kept.is_followed = false,
            }
        });
    }

    fn attempts(&self, address: &str) -> Arc<Attempts> {
        Attempts::new(address.to_owned(), self.driver.clone(), self.material.clone())
    }

    /// Closes those that nobody has used for so long, and those that no new call may use. Calls under way keep theirs
    /// until they end.
    pub fn close_idle(&self, idle: Duration) {
        let material = self.material.borrow().clone();
        let is_good = |kept: &Kept| kept.used.elapsed() < idle && kept.is_good(material.as_ref());
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, kept| is_good(kept));
    }
}

/// How nodes are spoken to. The connectors do TLS and know the address; this one only names the service in the requests.
fn endpoint() -> Endpoint {
    let (interval, limit) = STILL_THERE;
    Endpoint::from(Uri::from_static("http://node"))
        .http2_keep_alive_interval(interval)
        .keep_alive_timeout(limit)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADERS_LIMIT)
}
