//! A connection to each node, made when it is needed, closed when it is idle, and made anew when it is old or certificates
//! change: what a node showed then may not be worth anything any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::attempts::Attempts;
use super::connection::Connection;
use crate::tls::InForce;
use crate::tls::material::Material;

/// How long a connection may rest before it is closed.
pub const IDLE: Duration = Duration::from_mins(10);
/// How long new calls go over a connection. Nodes end those that are older (`csi::server::ConnectionLimits`), and a call
/// that is just about to go out on one would be lost.
const OLDEST: Duration = Duration::from_mins(5);
/// The connections of a controller.
pub struct Connections {
    driver: String,
    material: InForce,
    kept: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    connection: Connection,
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
    pub fn to(&self, address: &str) -> Connection {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, material) = (Instant::now(), self.material.borrow().clone());
        if let Some(kept) = kept.get_mut(address).filter(|kept| kept.is_good(material.as_ref())) {
            kept.used = now;
            return kept.connection.clone();
        }
        let attempts = Attempts::new(address.to_owned(), self.driver.clone(), self.material.clone());
        let connection = Connection::new(attempts);
        let new = Kept { connection: connection.clone(), made: now, used: now, material };
        kept.insert(address.to_owned(), new);
        connection
    }

    /// Closes those that nobody has used for so long, and those that no new call may use. Calls under way keep theirs
    /// until they end.
    pub fn close_idle(&self, idle: Duration) {
        let material = self.material.borrow().clone();
        let is_good = |kept: &Kept| kept.used.elapsed() < idle && kept.is_good(material.as_ref());
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, kept| is_good(kept));
    }
}
