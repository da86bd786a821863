//! Volume groups that a case makes for itself, on slices of a disk that can be pulled, failed or slowed down.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::tools::{lvm, run};

/// Blocks of 512 bytes in a MiB.
const BLOCKS: u64 = 2048;

/// A part of the second disk, as a device of its own.
#[derive(Debug)]
pub struct Slice {
    name: String,
    disk: String,
    start: u64,
    length: u64,
}

impl Slice {
    /// Cuts a slice of so many MiB out of the disk, empty at both ends.
    pub fn cut(name: String, disk: &str, start_mib: u64, mib: u64) -> Result<Self> {
        let slice = Self { name, disk: disk.to_owned(), start: start_mib * BLOCKS, length: mib * BLOCKS };
        run(&["dmsetup", "create", &slice.name, "--table", &slice.linear()])?;
        let empty = vec![0; 2 << 20];
        super::write_at(&slice.device(), 0, &empty)?;
        super::write_at(&slice.device(), (mib << 20) - (1 << 20), &empty[..1 << 20])?;
        Ok(slice)
    }

    fn linear(&self) -> String {
        format!("0 {} linear {} {}", self.length, self.disk, self.start)
    }

    /// Its device.
    pub fn device(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.name)
    }

    /// Its device as text.
    pub fn path(&self) -> String {
        format!("/dev/mapper/{}", self.name)
    }

    fn set(&self, table: &str) -> Result<()> {
        run(&["dmsetup", "load", &self.name, "--table", table])?;
        run(&["dmsetup", "suspend", "--noflush", "--nolockfs", &self.name])?;
        run(&["dmsetup", "resume", &self.name])?;
        Ok(())
    }

    /// From now on every read and write fails.
    pub fn fail(&self) -> Result<()> {
        self.set(&format!("0 {} error", self.length))
    }

    /// From now on every write and flush takes so much longer.
    pub fn slow_down(&self, milliseconds: u32) -> Result<()> {
        let Self { disk, start, length, .. } = self;
        self.set(&format!("0 {length} delay {disk} {start} 0 {disk} {start} {milliseconds}"))
    }

    /// As it was at first.
    pub fn repair(&self) -> Result<()> {
        self.set(&self.linear())
    }

    /// Pulls it out: the device is gone. Nothing may have it open.
    pub fn pull(&self) -> Result<()> {
        run(&["dmsetup", "remove", "--retry", &self.name]).map(drop).map_err(|error| {
            let users = run(&["sh", "-c", "dmsetup ls --tree; ls -l /proc/[0-9]*/fd 2>/dev/null | grep /dev/dm"]);
            error.context(format!("in use: {users:?}"))
        })
    }

    /// Plugs it in again.
    pub fn plug(&self) -> Result<()> {
        run(&["dmsetup", "create", &self.name, "--table", &self.linear()])?;
        run(&["udevadm", "settle"]).map(drop)
    }
}

/// A volume group on slices.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What it lies on.
    pub slices: Vec<Slice>,
}

impl Group {
    /// Makes it.
    pub fn make(name: &str, slices: Vec<Slice>) -> Result<Self> {
        let devices: Vec<String> = slices.iter().map(Slice::path).collect();
        let mut words = vec!["vgcreate", "-q", name];
        words.extend(devices.iter().map(String::as_str));
        lvm(&words)?;
        Ok(Self { name: name.to_owned(), slices })
    }

    /// The only slice.
    pub fn slice(&self) -> Result<&Slice> {
        self.slices.first().context("the group has no slice")
    }

    /// Takes it away with all that is in it, and its slices.
    pub fn remove(self) -> Result<()> {
        lvm(&["vgremove", "-q", "-ff", "-y", &self.name])?;
        run(&["udevadm", "settle"])?;
        // A node that looks only when the disks are gone as well must take the group for one that is out of reach.
        super::metrics("/metrics")?;
        for slice in &self.slices {
            slice.pull()?;
        }
        Ok(())
    }
}
