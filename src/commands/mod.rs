//! What the program can do; a file each. Those that answer and end write to a writer and say with which
//! status to end.

pub mod check_config;
pub mod doctor;
mod machine;
pub mod node;
pub mod version;
pub mod volumes;
mod words;
