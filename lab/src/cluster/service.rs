//! A program that runs until it is told otherwise and writes a log, on this machine or in a guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};

use crate::channel::{Channel, locked};
use crate::command::Command;
use crate::process::{self, Process};

/// So many lines of a log are quoted when something went wrong.
const QUOTED: usize = 25;

#[derive(Debug)]
pub(crate) struct Service {
    name: &'static str,
    command: Command,
    log: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Service {
    /// `log_there` is where the program finds its log, `log` where this process does.
    pub(crate) fn new(name: &'static str, words: &[String], log_there: &str, log: PathBuf) -> Self {
        // The shell gives way to the program: the log is written without a detour through the channel.
        let command = Command::new("sh").args(["-c", r#"exec "$@" >>"$0" 2>&1"#, log_there]).args(words);
        Self { name, command, log, process: Mutex::default() }
    }

    /// Starts it; one that still runs is killed first.
    pub(crate) fn start(&self, channel: &Arc<Channel>) -> Result<()> {
        let mut process = locked(&self.process);
        *process = None;
        let started = process::spawn(channel, &self.command, &self.log);
        *process = Some(started.with_context(|| format!("cannot start {}", self.name))?);
        Ok(())
    }

    /// Kills it and waits for its end; not running is fine.
    pub(crate) fn kill(&self) -> Result<()> {
        if let Some(mut process) = locked(&self.process).take() {
            process.kill().with_context(|| format!("cannot kill {}", self.name))?;
        }
        Ok(())
    }

    /// The machine on which it ran is gone.
    pub(crate) fn forget(&self) {
        *locked(&self.process) = None;
    }

    /// An error with the end of the log when it ended by itself or was never started.
    pub(crate) fn check(&self) -> Result<()> {
        let ended = match locked(&self.process).as_mut() {
            Some(process) => process.try_wait()?,
            None => bail!("{} does not run", self.name),
        };
        match ended {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}{}", self.name, self.quote()),
        }
    }

    /// The end of the log, as the end of a message.
    pub(crate) fn quote(&self) -> String {
        quote(&self.log)
    }
}

/// The last lines of a log, as the end of a message.
pub(crate) fn quote(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("\nthe last lines of {}:\n{}", log.display(), lines[lines.len().saturating_sub(QUOTED)..].join("\n"))
}
