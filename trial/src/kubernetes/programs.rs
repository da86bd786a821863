//! The driver's programs on a worker, as processes.

use anyhow::{Result, bail};
use quarry_lab::{Command, Status};

use super::Installed;

/// A program of the driver's pods.
#[derive(Debug, Clone, Copy)]
pub enum Program {
    /// `quarry node`
    Node,
    /// `quarry controller`
    Controller,
    /// external-provisioner
    Provisioner,
    /// csi-snapshotter
    Snapshotter,
}

impl Program {
    /// How its command line begins, as a regular expression.
    fn begins(self) -> &'static str {
        match self {
            Self::Node => "^quarry node ",
            Self::Controller => "^quarry controller ",
            Self::Provisioner => "^/csi-provisioner ",
            Self::Snapshotter => "^/csi-snapshotter ",
        }
    }
}

impl Installed {
    /// Sends a signal, as `KILL`, to a program of the driver on a worker; answers whether there was one.
    pub fn signal(&self, worker: &str, program: Program, signal: &str) -> Result<bool> {
        let command = Command::new("pkill").args(["--signal", signal, "--full", program.begins()]);
        let output = self.worker(worker)?.run(&command)?;
        match output.status {
            Status::Exited(0) => Ok(true),
            Status::Exited(1) => Ok(false),
            _ => bail!("pkill: {}: {}", output.status, output.error_text()),
        }
    }
}
