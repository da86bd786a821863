//! Mutual TLS between the controller and its nodes.
//!
//! Certificates name a role and the driver, not an address: `controller.<driver>` and `node.<driver>`. The controller
//! refuses a server that is not a node, a node every client that is not the controller.
//!
//! - [`material`]: what one shows and whom one trusts, from PEM
//! - [`folder`]: material from files, read again when they change
//! - [`server`], [`client`]: the two ends
//! - [`trusted`]: a connection that lasts only as long as its client is trusted
//! - `places`, `refusals`: bounds on what those who are not the controller can cause
//! - [`expiry`]: when one's own certificate expires
//! - [`authority`]: making and renewing certificates; decides only, keeps nothing

pub mod authority;
pub mod client;
pub mod expiry;
pub mod folder;
pub mod material;
mod places;
mod refusals;
pub mod server;
pub mod trusted;

use std::sync::Arc;

use tokio::sync::watch;

use self::material::Material;

/// The material in force; `None` until there is some. Whoever makes or accepts a connection takes the newest,
/// and a connection lasts no longer than what was shown for it is trusted.
pub type InForce = watch::Receiver<Option<Arc<Material>>>;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The client.
    Controller,
    /// The server.
    Node,
}

impl Role {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Node => "node",
        }
    }

    /// The name in the certificate, as DNS would write it.
    pub fn name(self, driver: &str) -> String {
        format!("{}.{driver}", self.word())
    }
}
