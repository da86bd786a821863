//! Controller mode: a router without state. Which node? Forward; gather what is of all nodes.
//!
//! - [`controller_service`], [`group_controller_service`]: the gRPC services; parse, route, answer
//! - [`membership`]: which nodes there are and where
//! - [`connections`]: a connection to each, made when needed and closed when idle
//! - [`connection`], `attempts`: one of them; making it, once for all who wait for it
//! - `doubts`: which volumes may have come to be on which node
//! - [`router`]: from a node to its connection, and what is known of nodes that cannot be reached
//! - [`forward`]: one call to one node, its deadline, and what came of it
//! - [`create`]: making a volume on the right node
//! - [`placement`]: the nodes that may make a volume, in which order
//! - [`kubernetes`]: nodes and certificates as Kubernetes has them
//! - [`gather`]: one question to many nodes; lists page by page
//! - [`reachable`]: the list of those nodes that answer, for who says what is missing
//! - [`orphans`]: volumes that nobody names, and which of them may be removed; pure
//! - [`ambiguous`]: volumes that cannot be told apart; pure
//! - [`recover`]: `PersistentVolumes` for volumes that the cluster has forgotten; pure
//! - [`storage_class`]: which `StorageClass` such a volume belongs to; pure

pub mod ambiguous;
mod attempts;
pub mod connection;
pub mod connections;
pub mod controller_service;
pub mod create;
mod doubts;
pub mod forward;
pub mod gather;
pub mod group_controller_service;
pub mod kubernetes;
pub mod membership;
pub mod metadata_service;
pub mod orphans;
pub mod placement;
pub mod reachable;
pub mod recover;
pub mod router;
pub mod storage_class;
