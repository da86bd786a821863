//! What the program can do; a file each. Those that answer and end write to a writer and say with which
//! status to end.

pub mod certificates;
pub mod check_config;
pub mod controller;
pub mod doctor;
mod machine;
pub mod node;
mod node_metrics;
mod serving;
pub mod version;
pub mod volumes;
mod words;
