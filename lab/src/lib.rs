//! The lab of Quarry: machines with a real kernel, real LVM and disks that can fail, for tests, demos and benchmarks.

mod agent;
mod apt;
mod cache;
mod channel;
mod command;
mod console;
mod disk;
mod fault;
mod flow;
mod frame;
mod guest;
mod host;
mod init;
mod launch;
mod machine;
mod options;
mod plug;
mod power;
mod process;
mod program;
mod root;
mod running;

pub use agent::serve;
pub use cache::cache_folder;
pub use command::{Command, Output, Status};
pub use disk::{Disk, DiskKind, parse_size};
pub use fault::{Behaviour, Fault};
pub use guest::Guest;
pub use host::Host;
pub use init::init;
pub use launch::{Share, launch, launch_inside};
pub use machine::Machine;
pub use options::Options;
pub use process::Process;
pub use root::root;
