//! What the commands that look at this machine share: the two seams, and a runtime for one question.

use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use crate::host::linux::Linux;
use crate::host::processes::Processes;
use crate::lvm::groups::Groups;

/// This machine, as a command sees it that runs beside the node or without one.
pub(super) struct Machine {
    /// Mounts, devices, device-mapper.
    pub(super) kernel: Linux,
    /// Programs.
    pub(super) processes: Processes,
    /// The volume groups.
    pub(super) groups: Groups,
}

impl Machine {
    /// Nothing is looked at yet.
    pub(super) fn new() -> Self {
        let (kernel, processes) = (Linux::new(), Processes::new());
        let groups = Groups::new(Arc::new(kernel.clone()), Arc::new(processes.clone()));
        Self { kernel, processes, groups }
    }
}

/// Whether this process is root; everything about disks needs that.
pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Runs one question to its end.
pub(super) fn block_on<T>(question: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(question);
    // Device calls that hang in the kernel cannot be ended; they must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    answer
}
