//! What a controller does in Kubernetes beside routing. Nodes have no part in it: they hold no credentials.
//!
//! - [`client`]: how the API server is spoken to
//! - [`nodes`]: which nodes there are, from Node objects and the `EndpointSlices` of the nodes' Service
//! - `seen`: what a watch has shown, reduced to what matters
//! - [`certificates`]: the two Secrets that hold what mutual TLS needs
//! - [`references`]: what names volumes: `PersistentVolumes`, claims, `StorageClasses`
//! - [`events`]: what a person must know, told where he looks
//! - [`given_up`]: tells of volumes that were deleted without their nodes
//! - [`selected_node`]: sends claims of copies to the nodes of their sources
//! - [`upkeep`]: looks for orphans and sick volumes now and then

pub mod certificates;
pub mod client;
pub mod events;
pub mod given_up;
pub mod nodes;
pub mod references;
mod seen;
pub mod selected_node;
pub mod upkeep;
