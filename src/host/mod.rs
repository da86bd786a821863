//! The machine. Two traits are the only seams: [`commands::Commands`] starts programs,
//! [`kernel::Kernel`] asks the kernel (mounts, block devices, device-mapper). Every effect of the
//! driver passes through one of them, so a test can make any single effect fail.

pub mod commands;
pub mod file_system;
pub mod free_space;
pub mod kernel;
pub mod lines;
pub mod linux;
pub mod mkfs_options;
mod mount_option_tables;
pub mod mount_options;
mod option_values;
pub mod probe;
pub mod processes;
pub mod superblock;

use self::file_system::FileSystem;

/// Checks the words for mkfs and mount that a class has for a file system.
pub fn check_options(file_system: &str, mkfs: &[String], mount: &[String]) -> Result<(), String> {
    let file_system: FileSystem = file_system.parse()?;
    mkfs_options::check(file_system, mkfs)?;
    mount_options::check(file_system, &mount_options::parse(mount)?)
}
