//! The lab of Quarry: machines with a real kernel, real LVM and disks that can fail, for tests, demos and benchmarks.

mod agent;
mod apt;
mod cache;
mod channel;
mod command;
mod console;
mod disk;
mod frame;
mod guest;
mod init;
mod launch;
mod plug;
mod power;
mod process;
mod program;
mod root;

pub use agent::serve;
pub use cache::cache_folder;
pub use command::{Command, Output, Status};
pub use disk::{Disk, DiskKind, parse_size};
pub use guest::{Guest, Options};
pub use init::init;
pub use launch::{Share, launch, launch_inside};
pub use process::Process;
pub use root::root;
