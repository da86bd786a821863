//! Controller mode: a router without state. Which node? Forward; gather what is of all nodes.
//!
//! - [`controller_service`]: the gRPC service; parse, route, answer
//! - [`membership`]: which nodes there are and where
//! - [`connections`]: a connection to each, made when needed and closed when idle
//! - `attempts`: making a connection, once for all who wait for it
//! - `doubts`: which volumes may have come to be on which node
//! - [`router`]: from a node to its connection, and what is known of nodes that cannot be reached
//! - [`forward`]: one call to one node, its deadline, and what came of it
//! - [`create`]: making a volume on the right node
//! - [`placement`]: the nodes that may make a volume, in which order
//! - [`kubernetes`]: nodes and certificates as Kubernetes has them
//! - [`gather`]: one question to many nodes; lists page by page

mod attempts;
pub mod connections;
pub mod controller_service;
pub mod create;
mod doubts;
pub mod forward;
pub mod gather;
pub mod kubernetes;
pub mod membership;
pub mod placement;
pub mod router;
