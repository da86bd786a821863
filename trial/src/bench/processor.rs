//! The processors that a measured machine runs on. A guest has one, but its kernel and its processes are processes here, which hand over
//! to one another all the time. On two processors one of which is idle each of these steps takes ten times as long. What goes on in
//! the guest's disks runs beside it, though, as in real ones.

use std::fs;
use std::process::{self, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// How many processors a machine gets of this one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// One, for what is to be quick in the guest itself.
    One,
    /// All, for what its disks have to do.
    All,
}

/// Those that may be used here, as taskset(1) writes them.
#[derive(Debug)]
pub(super) struct Processors(String);

impl Processors {
    pub(super) fn allowed() -> Result<Self> {
        let status = fs::read_to_string("/proc/thread-self/status")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Ok(Self(list.context("no list of processors")?.trim().to_owned()))
    }

    /// Has what this thread starts from now on run on so many, the last of them where it is one.
    pub(super) fn keep_to(&self, share: Share) -> Result<()> {
        let list = match share {
            Share::One => self.0.rsplit(['-', ',']).next().unwrap_or(&self.0),
            Share::All => &self.0,
        };
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", "--pid", list]).arg(process::id().to_string()).stdout(Stdio::null());
        let status = command.status().context("cannot run taskset")?;
        ensure!(status.success(), "taskset: {status}");
        Ok(())
    }
}
