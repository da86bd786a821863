//! What an admin decides: the command line and the classes file.

pub mod classes;
pub mod classes_file;
pub mod driver_name;
pub mod flags;
pub mod node_address;
pub mod node_name;
pub mod pattern;
pub mod thin_pool;
pub mod trim_schedule;
pub mod watch;
