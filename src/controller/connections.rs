//! A connection to each node, made when it is needed and closed when it is idle. One that is used is followed by a new one
//! before its node ends it; when certificates change, it ends at once: what a node showed then may not be worth anything
//! any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::attempts::Attempts;
use super::connection::Connection;
use crate::tls::InForce;
use crate::tls::material::Material;

/// How long a connection may rest before it is closed.
pub const IDLE: Duration = Duration::from_mins(5);
/// From this age on a connection that is used is replaced, while calls go over it still.
const OLD: Duration = Duration::from_mins(5);
/// From this age on no new call goes over it: a node is about to end it (`csi::server::ConnectionLimits`), and a call that
/// just goes out then would be lost.
const TOO_OLD: Duration = Duration::from_mins(9);

/// The connections of a controller.
pub struct Connections {
    driver: String,
    material: InForce,
    kept: Arc<Mutex<HashMap<String, Kept>>>,
}

struct Kept {
    connection: Connection,
    made: Instant,
    used: Instant,
    /// What was in force when it was made.
    material: Option<Arc<Material>>,
    /// Whether the next one is being made.
    is_followed: bool,
}

impl Kept {
    fn new(connection: Connection, material: Option<Arc<Material>>) -> Self {
        let now = Instant::now();
        Self { connection, made: now, used: now, material, is_followed: false }
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
    pub fn to(&self, address: &str) -> Connection {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let material = self.material.borrow().clone();
        if let Some(kept) = kept.get_mut(address).filter(|kept| kept.is_good(material.as_ref())) {
            kept.used = Instant::now();
            if kept.made.elapsed() >= OLD && !kept.is_followed {
                kept.is_followed = true;
                self.follow(address.to_owned(), material);
            }
            return kept.connection.clone();
        }
        let connection = self.new_connection(address.to_owned());
        kept.insert(address.to_owned(), Kept::new(connection.clone(), material));
        connection
    }

    /// Makes the next connection, so that no call has to wait for it.
    fn follow(&self, address: String, material: Option<Arc<Material>>) {
        let (next, kept) = (self.new_connection(address.clone()), Arc::clone(&self.kept));
        tokio::spawn(async move {
            let made = next.make().await;
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have been closed meanwhile, or be another one since certificates changed.
            let Some(kept) = kept.get_mut(&address).filter(|kept| kept.is_followed) else { return };
            match made {
                Ok(()) => *kept = Kept::new(next, material),
                Err(_) => kept.is_followed = false,
            }
        });
    }

    fn new_connection(&self, address: String) -> Connection {
        Connection::new(Attempts::new(address, self.driver.clone(), self.material.clone()))
    }

    /// Closes those that nobody has used for so long, and those that no new call may use. Calls under way keep theirs
    /// until they end.
    pub fn close_idle(&self, idle: Duration) {
        let material = self.material.borrow().clone();
        let is_good = |kept: &Kept| kept.used.elapsed() < idle && kept.is_good(material.as_ref());
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, kept| is_good(kept));
    }
}
