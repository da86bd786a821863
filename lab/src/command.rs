//! What to run on a machine and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};

/// A program to run on a [`Machine`](crate::Machine): never through a shell unless asked for.
#[derive(Debug, Clone)]
pub struct Command {
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) folder: Option<String>,
    pub(crate) input: Option<Vec<u8>>,
    pub(crate) limit: Duration,
    pub(crate) streamed: bool,
}

impl Command {
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            arguments: vec![program.into()],
            environment: BTreeMap::new(),
            folder: None,
            input: None,
            limit: Duration::from_mins(5),
            streamed: false,
        }
    }

    /// `sh -e -c SCRIPT`.
    pub fn shell(script: impl Into<String>) -> Self {
        Self::new("sh").args(["-e", "-c"]).arg(script)
    }

    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds one variable to the machine's few own ones (`PATH`, `HOME`, `LANG`, `LVM_SUPPRESS_FD_WARNINGS`).
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    #[must_use]
    pub fn folder(mut self, folder: impl Into<String>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// What the program reads as its standard input; without it, nothing.
    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// How long it may take (5 minutes unless said): after that it is killed and `run` is an error.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Shows the output on this process's own standard output and error as it comes, beside collecting it.
    #[must_use]
    pub fn streamed(mut self) -> Self {
        self.streamed = true;
        self
    }
}

/// The command as a person would type it, for messages.
impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.arguments.join(" "))
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Exited(i32),
    Killed(i32),
}

impl Status {
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// As a shell would report it: 128 + the number of the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "exit status {code}"),
            Self::Killed(signal) => write!(formatter, "killed by signal {signal}"),
        }
    }
}

/// What a finished program left.
#[derive(Debug, Clone)]
pub struct Output {
    pub status: Status,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// From just before the start to the end, by the machine's own clock (the way to the machine is not in it).
    pub seconds: f64,
    pub(crate) command: String,
}

impl Output {
    /// Standard output as text, without white space at its ends.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Standard error as text, without white space at its ends.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }

    /// The output itself when the status is 0, else an error that names the command and what it said.
    pub fn checked(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        bail!("`{}`: {}\n{}\n{}", self.command, self.status, self.error_text(), self.text());
    }
}
