//! A controller over real `quarry node` services on a machine in memory, with mutual TLS between them.

#![allow(clippy::unwrap_used)]

mod api_server;
mod blocks;
mod certificates;
mod cluster;
mod copies;
mod doubts;
mod groups;
mod lists;
mod mistaken;
mod routing;
mod silence;
mod trust;
mod upkeep;
