//! A machine in memory below the two seams ([`Commands`](quarry::host::commands::Commands) and
//! [`Kernel`](quarry::host::kernel::Kernel)): the driver's own code runs on it as on a real one.
//!
//! - [`machine`]: what outlives the driver's process: disks, groups, devices, mounts
//! - [`seat`]: a process of the driver on it; where effects are counted and go wrong
//! - [`kernel`], [`commands`]: the seams as that process sees them
//! - [`disk`], [`disk_format`], [`lvm`], [`device`], [`file_system`]: what lies on the disks, and what lvm makes of it
//! - [`thin`], [`cow`], [`storage`]: thin pools and thick snapshots as the kernel has them, and what is read and written where

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "it is for tests: what the driver must never do ends in a panic"
)]

pub mod commands;
pub mod copied;
pub mod cow;
pub mod device;
pub mod disk;
pub mod disk_format;
pub mod file_system;
pub mod kernel;
pub mod lvm;
pub mod machine;
pub mod seat;
pub mod storage;
pub mod thin;
