//! The processor that a measured machine runs on. A guest has one, but its kernel and its processes are processes here, which hand over
//! to one another all the time. On two processors one of which is idle each of these steps takes ten times as long.

use std::fs;
use std::process::{self, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Has what this thread starts from now on run on one processor, the last that it may use.
pub(super) fn keep_to_one() -> Result<()> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let last = allowed.and_then(|list| list.trim().rsplit(['-', ',']).next()).context("no list of processors")?;
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "--pid", last]).arg(process::id().to_string()).stdout(Stdio::null());
    let status = command.status().context("cannot run taskset")?;
    ensure!(status.success(), "taskset: {status}");
    Ok(())
}
