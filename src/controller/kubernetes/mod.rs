//! What a controller does in Kubernetes beside routing. Nodes have no part in it: they hold no credentials.
//!
//! - [`client`]: how the API server is spoken to
//! - [`nodes`]: which nodes there are, from Node objects and the `EndpointSlices` of the nodes' Service
//! - `seen`: what a watch has shown, reduced to what matters
//! - [`certificates`]: the two Secrets that hold what mutual TLS needs

pub mod certificates;
pub mod client;
pub mod nodes;
mod seen;
