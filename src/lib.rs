//! Quarry: a CSI storage driver for local LVM volumes.

pub mod csi;
pub mod telemetry;
