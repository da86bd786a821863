//! What both modes share of the protocol.
//!
//! - [`v1`]: the types, clients and servers generated from `proto/csi.proto`
//! - [`endpoint`]: the unix socket: how it is named, and how it is bound
//! - [`server`]: serving until told to stop, and ending well
//! - [`observe`]: the layer around every call that logs and counts it
//! - [`capabilities`]: what the driver offers, the same in both modes
//! - [`condition`]: which volumes a deletion may hit, said with the call
//! - [`identity`]: the Identity service, the same in both modes
//! - [`method`]: the names of all calls, and which of them change something
//! - [`meant_node`]: which node a forwarded call means
//! - [`page`]: how much of a list one answer holds
//! - [`request`]: requests parsed into typed values
//! - [`volume_facts`]: what a list of volumes tells of each

pub mod capabilities;
pub mod condition;
pub mod endpoint;
pub mod identity;
pub mod meant_node;
pub mod method;
pub mod observe;
pub mod page;
pub mod request;
pub mod server;
pub mod volume_facts;

/// The Container Storage Interface, generated. Messages that hold secrets have no `Debug`.
#[allow(clippy::all, clippy::pedantic, unreachable_pub, reason = "generated code follows no taste of ours")]
pub mod v1 {
    tonic::include_proto!("csi.v1");
}
