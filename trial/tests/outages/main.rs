//! What happens to pods and volumes while a part of the cluster is away, and after it is back. All tests share one cluster,
//! one at a time; each leaves it healthy and with nothing of its own in it.

#![allow(clippy::unwrap_used)]

mod api_server;
mod certificates;
mod controller;
mod load;
mod lost_node;
mod network;
mod node;
mod power;
mod shared;
mod snapshots;
mod uninstall;
mod upgrade;
mod writers;
