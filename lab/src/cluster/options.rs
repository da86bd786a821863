//! What a cluster is made of.

use std::path::PathBuf;

use crate::disk::Disk;

/// What a cluster is made of; see the methods.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    pub workers: u8,
    pub memory: u64,
    pub disks: Vec<Disk>,
    pub shares: Vec<(PathBuf, PathBuf)>,
    pub audit: bool,
    pub verbose: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { workers: 3, memory: 2 << 30, disks: Vec::new(), shares: Vec::new(), audit: false, verbose: false }
    }
}

impl ClusterOptions {
    /// Three workers of 2 GiB, without disks but their own.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many workers, at least 1 and at most 200; they are called `worker-1` and so on.
    #[must_use]
    pub fn workers(mut self, number: u8) -> Self {
        self.workers = number;
        self
    }

    /// Memory of each worker in bytes, taken from this machine only as it is used.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// One more disk for each worker, for LVM to use. It is empty at first and survives power cuts of its worker, as its
    /// kind says; [`Worker::device`](crate::Worker::device) tells where it is.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Shows a folder of this machine to each worker, read-only, at a path of its own.
    #[must_use]
    pub fn share(mut self, here: impl Into<PathBuf>, there: impl Into<PathBuf>) -> Self {
        self.shares.push((here.into(), there.into()));
        self
    }

    /// Lets the API server write down who asked it for what: [`Cluster::audit_log`](crate::Cluster::audit_log).
    #[must_use]
    pub fn audit(mut self) -> Self {
        self.audit = true;
        self
    }

    /// Tells on standard error what was reached after how many seconds.
    #[must_use]
    pub fn verbose(mut self) -> Self {
        self.verbose = true;
        self
    }
}
