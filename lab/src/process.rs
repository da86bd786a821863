//! A program that runs on a machine, from its start to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::channel::Channel;
use crate::command::{Command, Output, Status};
use crate::frame::Request;
use crate::running::Sink;

/// How long a program may take to begin, and to go once it was killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running program. Dropping it kills the program's whole process group.
#[derive(Debug)]
pub struct Process {
    channel: Arc<Channel>,
    id: u64,
    pid: u32,
    name: String,
    ended: bool,
}

impl Process {
    pub(crate) fn start(channel: &Arc<Channel>, command: &Command, sink: Sink) -> Result<Self> {
        let id = channel.start(command, sink)?;
        let pid = channel.wait_program(id, PATIENCE, |running| match (&running.result, running.pid) {
            (Some(Err(message)), _) => Some(Err(anyhow!("{message}"))),
            (_, Some(pid)) => Some(Ok(pid)),
            _ => None,
        });
        match pid {
            Ok(Some(pid)) => {
                Ok(Self { channel: Arc::clone(channel), id, pid, name: command.to_string(), ended: false })
            }
            Ok(None) => {
                channel.forget(id);
                bail!("`{command}` did not start within {PATIENCE:?}{}", channel.console_tail())
            }
            Err(error) => {
                channel.forget(id);
                Err(error).with_context(|| format!("`{command}`"))
            }
        }
    }

    /// The process id, as the machine itself counts.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal (a number as in signal(7)) to the program and all it started in its process group.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.channel.request(&Request::Signal { id: self.id, signal })
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<Status> {
        self.signal(9)?;
        self.wait(PATIENCE)
    }

    /// How it ended, or None while it runs.
    pub fn try_wait(&mut self) -> Result<Option<Status>> {
        let found = self.look(Duration::ZERO)?;
        self.ended |= found.is_some();
        Ok(found.map(|(status, _)| status))
    }

    /// Waits for its end; an error when the limit passes first (it goes on then).
    pub fn wait(&mut self, limit: Duration) -> Result<Status> {
        let Some((status, _)) = self.look(limit)? else { bail!("`{}` did not end within {limit:?}", self.name) };
        self.ended = true;
        Ok(status)
    }

    fn look(&self, limit: Duration) -> Result<Option<(Status, f64)>> {
        self.channel
            .wait_program(self.id, limit, |running| {
                running.result.as_ref().map(|result| result.clone().map_err(|message| anyhow!("{message}")))
            })
            .with_context(|| format!("`{}`", self.name))
    }

    /// Waits and takes what was collected.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<Output> {
        let Some((status, seconds)) = self.look(limit)? else {
            let _ = self.kill();
            bail!("`{}` did not end within {limit:?} and was killed{}", self.name, self.channel.console_tail());
        };
        self.ended = true;
        let running = self.channel.forget(self.id).context("the program was waited for already")?;
        let command = std::mem::take(&mut self.name);
        Ok(Output { status, stdout: running.stdout, stderr: running.stderr, seconds, command })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            // Failing means that the machine is gone, and the program with it.
            let _ = self.signal(9);
        }
        self.channel.forget(self.id);
    }
}

/// Runs to the end.
pub(crate) fn run(channel: &Arc<Channel>, command: &Command) -> Result<Output> {
    let sink = Sink::Collect { streamed: command.streamed };
    Process::start(channel, command, sink)?.finish(command.limit)
}

/// Starts and leaves running, standard output and error appended to a file of the caller.
pub(crate) fn spawn(channel: &Arc<Channel>, command: &Command, log: &Path) -> Result<Process> {
    let file = std::fs::File::options().create(true).append(true).open(log);
    let file = file.with_context(|| format!("cannot open the log {}", log.display()))?;
    Process::start(channel, command, Sink::Log(file))
}
