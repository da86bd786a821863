//! A controller over real `quarry node` services on a machine in memory, with mutual TLS between them.

#![allow(clippy::unwrap_used)]

mod certificates;
mod cluster;
mod mistaken;
mod routing;
mod silence;
mod trust;
