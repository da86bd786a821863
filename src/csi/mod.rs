//! What both modes share of the protocol.
//!
//! - [`v1`]: the types, clients and servers generated from `proto/csi.proto`

/// The Container Storage Interface, generated. Messages that hold secrets have no `Debug`.
#[allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated code follows no taste of ours"
)]
pub mod v1 {
    tonic::include_proto!("csi.v1");
}
