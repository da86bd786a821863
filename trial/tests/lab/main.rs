//! The driver on a real kernel and real LVM. One program, so that the machines of several tests run side by side.
#![allow(clippy::unwrap_used)]

mod data_safety;
mod power_cuts;
mod races;
mod requests;
mod restart;
mod sanity;
mod snapshots;
mod thin_bench;
mod under_load;
mod volumes;
