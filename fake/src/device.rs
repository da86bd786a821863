//! Logical volumes as device-mapper shows them.

use std::path::PathBuf;

use crate::lvm::{LogicalVolume, mapper_name};

/// An active logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub group: String,
    pub volume: String,
    pub uuid: String,
    pub suspended: bool,
    pub read_only: bool,
    /// Its table: a copy of the segments, which may be out of date while it is suspended.
    pub table: LogicalVolume,
    /// How many programs have it open, mounts not counted.
    pub opened: u32,
}

/// The device node of a minor number.
pub fn node(minor: u32) -> PathBuf {
    PathBuf::from(format!("/dev/dm-{minor}"))
}

impl Device {
    pub fn name(&self) -> String {
        mapper_name(&self.group, &self.volume)
    }
}
