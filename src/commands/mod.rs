//! What the program can do; a file each. Those that answer and end write to a writer and say with which
//! status to end.

pub mod certificates;
pub mod check_config;
mod cluster;
pub mod controller;
pub mod doctor;
mod machine;
pub mod node;
mod node_metrics;
pub mod orphans;
pub mod recover_pvs;
mod serving;
pub mod version;
pub mod volumes;
mod words;
