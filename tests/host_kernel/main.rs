//! The real processes and the real kernel, on loop devices. Needs root, loop devices and the file systems'
//! programs (Debian: e2fsprogs, xfsprogs, btrfs-progs, dosfstools, fdisk); skips loudly what cannot be had.
#![allow(clippy::unwrap_used, reason = "in a test, what fails is the result")]

mod content;
mod devices;
mod file_systems;
mod stand;
