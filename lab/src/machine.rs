//! One machine for whoever does not care whether its kernel is a guest's or this machine's own.

use std::env;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::channel::Channel;
use crate::command::{Command, Output};
use crate::disk::Disk;
use crate::fault::Fault;
use crate::guest::Guest;
use crate::host::Host;
use crate::options::Options;
use crate::process::{self, Process};

/// A machine to run programs on.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few, and they stay where they are")]
pub enum Machine {
    Guest(Guest),
    Host(Host),
}

impl Machine {
    /// A guest, or with `LAB=host` in the environment this machine itself.
    pub fn start(options: &Options) -> Result<Self> {
        match env::var("LAB").unwrap_or_default().as_str() {
            "" | "guest" => Guest::boot(options).map(Self::Guest),
            "host" => Host::start(options).map(Self::Host),
            other => bail!("LAB={other}: use `guest` or `host`"),
        }
    }

    fn channel(&self) -> &Arc<Channel> {
        match self {
            Self::Guest(guest) => &guest.channel,
            Self::Host(host) => host.channel(),
        }
    }

    /// The kernel's release.
    pub fn kernel(&self) -> &str {
        match self {
            Self::Guest(guest) => guest.kernel(),
            Self::Host(host) => host.kernel(),
        }
    }

    /// Runs a program to its end.
    pub fn run(&self, command: &Command) -> Result<Output> {
        process::run(self.channel(), command)
    }

    /// Starts a program and leaves it running; its output is appended to a file on this side.
    pub fn spawn(&self, command: &Command, log: &Path) -> Result<Process> {
        process::spawn(self.channel(), command, log)
    }

    /// The path by which programs on the machine reach a file or folder of this side: in a guest through the shares.
    pub fn path(&self, here: &Path) -> Result<String> {
        match self {
            Self::Guest(guest) => guest.path(here),
            Self::Host(_) => Ok(here.to_string_lossy().into_owned()),
        }
    }

    /// The device of a disk on the machine.
    pub fn device(&self, name: &str) -> Result<String> {
        match self {
            Self::Guest(guest) => guest.device(name),
            Self::Host(host) => host.device(name),
        }
    }

    /// Plugs a disk in; its device.
    pub fn add_disk(&self, disk: &Disk) -> Result<String> {
        match self {
            Self::Guest(guest) => guest.add_disk(disk),
            Self::Host(host) => host.add_disk(disk),
        }
    }

    /// Pulls a disk out.
    pub fn pull_disk(&self, name: &str) -> Result<()> {
        match self {
            Self::Guest(guest) => guest.pull_disk(name),
            Self::Host(host) => host.pull_disk(name),
        }
    }

    /// Lays a device over a disk that can be made to fail.
    pub fn fault(&self, name: &str) -> Result<Fault> {
        match self {
            Self::Guest(guest) => guest.fault(name),
            Self::Host(host) => Fault::put(host.channel(), name, host.device(name)?),
        }
    }

    /// Ends it in good order: a guest is switched off, on the machine itself everything is undone.
    pub fn stop(&self) -> Result<()> {
        match self {
            Self::Guest(guest) => guest.power_off(),
            Self::Host(host) => host.stop(),
        }
    }
}
