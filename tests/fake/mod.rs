//! A machine in memory below the two seams: disks, LVM, mounts, programs. Shared by tests that put the driver on it.

#![allow(dead_code, clippy::unwrap_used, reason = "no test uses all of it")]

pub(crate) mod commands;
pub(crate) mod disk;
pub(crate) mod disk_format;
pub(crate) mod file_system;
pub(crate) mod kernel;
pub(crate) mod lvm;
pub(crate) mod machine;
pub(crate) mod seat;
