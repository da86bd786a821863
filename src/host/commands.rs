//! Running programs: the first of the two seams to the machine.

use std::ffi::OsString;
use std::fmt;

use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

/// A program with its arguments. Never a shell string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program's name, looked up in the fixed folders of system programs.
    pub program: &'static str,
    /// The arguments, passed on as they are.
    pub arguments: Vec<OsString>,
}

impl Command {
    /// A command without arguments yet.
    pub fn new(program: &'static str) -> Self {
        Self { program, arguments: Vec::new() }
    }

    /// Adds one argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.program)?;
        for argument in &self.arguments {
            write!(formatter, " {}", argument.display())?;
        }
        Ok(())
    }
}

/// What a finished program left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, lossily as text.
    pub stderr: String,
}

/// Why a command gave no usable answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// The program is not installed.
    #[error("{program} is not installed on this node (`quarry doctor` lists what is needed)")]
    Missing {
        /// The program's name.
        program: String,
    },
    /// It ended with a status that says it failed.
    #[error("`{command}` failed with {status}: {stderr}")]
    Failed {
        /// The whole command line.
        command: String,
        /// "status 5" or "a signal".
        status: String,
        /// The last part of its standard error.
        stderr: String,
    },
    /// It could not be started or waited for.
    #[error("`{command}` could not be run: {reason}")]
    NotRun {
        /// The whole command line.
        command: String,
        /// The system's words.
        reason: String,
    },
    /// It ended well, but what it printed is not what it should be.
    #[error("`{command}` printed something unexpected: {problem}")]
    Nonsense {
        /// The whole command line.
        command: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Starts programs and waits for them. A started program is killed neither when its caller leaves nor when this process
/// ends: an lvm command that dies half-way can leave a volume suspended.
#[tonic::async_trait]
pub trait Commands: Send + Sync {
    /// Runs a command to its end, whatever its exit status.
    async fn run(&self, command: &Command) -> Result<Output, CommandError>;

    /// Runs a command that must end with status 0.
    async fn run_ok(&self, command: &Command) -> Result<Output, CommandError> {
        ended_well(command, self.run(command).await?)
    }

    /// Runs a command that must end with status 0, and kills it when it is given up, if it is a process. Only who puts right what
    /// it leaves then may give one up.
    async fn run_ok_unless(&self, command: &Command, given_up: CancellationToken) -> Result<Output, CommandError> {
        let _ = given_up;
        self.run_ok(command).await
    }

    /// Runs a command that changes nothing and must end with status 0, and hands on what it prints while it runs: for more
    /// than can be held. Only such a one is killed, when nobody takes what it prints any more; that is no error. The answer has
    /// no standard output.
    async fn stream(&self, command: &Command, pieces: Sender<Vec<u8>>) -> Result<Output, CommandError> {
        let output = self.run_ok(command).await?;
        pieces.send(output.stdout).await.ok();
        Ok(Output { stdout: Vec::new(), ..output })
    }
}

/// The output if the status is 0.
pub(super) fn ended_well(command: &Command, output: Output) -> Result<Output, CommandError> {
    if output.status == Some(0) {
        return Ok(output);
    }
    let status = output.status.map_or_else(|| String::from("a signal"), |code| format!("status {code}"));
    Err(CommandError::Failed { command: command.to_string(), status, stderr: output.stderr.trim().to_owned() })
}
