//! Quarry: a CSI storage driver for local LVM volumes.
//!
//! Where things live:
//! - [`error`]: the one error type and the one table to gRPC codes
//! - [`commands`]: the commands beside `quarry node`
//! - [`config`]: flags and the classes file
//! - [`csi`]: the protocol: generated types, requests parsed into typed values, sockets
//! - [`controller`]: routing to the nodes
//! - [`node`]: the services over this machine's volume groups
//! - [`lvm`]: everything that speaks LVM; knows no CSI
//! - [`host`]: the machine: running commands, mounts, file systems, block devices
//! - [`tls`]: mutual TLS between the controller and its nodes
//! - [`telemetry`]: logs, metrics, health

pub mod commands;
pub mod config;
pub mod controller;
pub mod csi;
pub mod error;
pub mod host;
pub mod lvm;
pub mod node;
pub mod telemetry;
pub mod tls;
