//! Every effect of the driver, one at a time, goes wrong in every way there is; then the call is repeated
//! until it is answered well, and the end must be the same as if nothing had happened.

#![allow(clippy::unwrap_used)]

mod alone;
mod call;
mod enumeration;
mod forgotten;
mod growth;
mod hostile;
mod known;
mod moments;
mod observation;
mod orchestrator;
mod requests;
mod scenarios;
mod snapshots;

use quarry_fake::{copied, device, disk, disk_format, file_system, lvm, machine, seat};
