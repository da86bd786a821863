//! Every effect of the driver, one at a time, goes wrong in every way there is; then the call is repeated
//! until it is answered well, and the end must be the same as if nothing had happened.

#![allow(clippy::unwrap_used)]

mod call;
mod commands;
mod disk;
mod disk_format;
mod enumeration;
mod file_system;
mod hostile;
mod kernel;
mod lvm;
mod machine;
mod observation;
mod orchestrator;
mod scenarios;
mod seat;
