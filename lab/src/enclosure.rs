//! Programs of this machine in namespaces of their own, started by an agent there: whatever it started ends with it, and
//! it ends with the process that made it, however that one ends.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command as HostCommand};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::channel::{Channel, locked};
use crate::program::program;

const READY_LIMIT: Duration = Duration::from_secs(10);
const UNDO_LIMIT: Duration = Duration::from_mins(1);

/// A process namespace (and what else was asked for) on this machine's kernel, with an agent as its first process.
/// Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Enclosure {
    channel: Arc<Channel>,
    agent: Mutex<Child>,
    kernel: String,
}

impl Enclosure {
    /// Mounts and processes are always its own; `more` words for unshare(1) add to that, such as `--net`.
    pub(crate) fn start(more: &[&str]) -> Result<Self> {
        let (own, theirs) = UnixStream::pair().context("cannot make a channel")?;
        let agent = HostCommand::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "slave"])
            .args(more)
            .arg(program()?)
            .arg("agent")
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .stdin(OwnedFd::from(theirs))
            // A terminal's Ctrl-C is for the lab, whose end makes the agent undo everything.
            .process_group(0)
            .spawn()
            .context("cannot start unshare")?;
        let mut enclosure = Self {
            channel: Channel::open(own.try_clone().context("cannot share the channel")?, own, None)?,
            agent: Mutex::new(agent),
            kernel: String::new(),
        };
        enclosure.kernel = enclosure.channel.wait_ready(READY_LIMIT)?;
        Ok(enclosure)
    }

    pub(crate) fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// The kernel's release.
    pub(crate) fn kernel(&self) -> &str {
        &self.kernel
    }

    /// A process of this machine that is in the enclosure's namespaces, except that of processes, until its end.
    pub(crate) fn process(&self) -> u32 {
        locked(&self.agent).id()
    }

    /// Ends every program in it, then waits until the agent has run what was left for that moment.
    pub(crate) fn end(&self) -> Result<()> {
        self.channel.expect_end("the machine was stopped");
        self.channel.hang_up();
        let deadline = Instant::now() + UNDO_LIMIT;
        let mut agent = locked(&self.agent);
        while agent.try_wait().context("cannot wait for the agent")?.is_none() {
            ensure!(Instant::now() < deadline, "undoing took longer than {UNDO_LIMIT:?}");
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("quarry-lab: {error:#}");
        }
    }
}
