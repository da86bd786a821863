//! The machine. Two traits are the only seams: [`commands::Commands`] starts programs,
//! [`kernel::Kernel`] asks the kernel (mounts, block devices, device-mapper). Every effect of the
//! driver passes through one of them, so a test can make any single effect fail.
//!
//! - [`processes`], [`linux`]: the real ones
//! - [`file_system`], [`mkfs_options`], [`grow`]: making and growing file systems
//! - [`superblock`], [`probe`]: what a device holds
//! - [`mount_options`]: which options a mount may have

pub mod commands;
pub mod file_system;
pub mod grow;
pub mod kernel;
pub mod linux;
pub mod mkfs_options;
mod mount_option_table;
pub mod mount_options;
mod option_value;
pub mod probe;
pub mod processes;
pub mod superblock;
