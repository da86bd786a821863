//! The real [`Commands`]: child processes.
//!
//! A child writes to files in memory, not to pipes: whatever happens to this process, a child that still
//! runs meets no `SIGPIPE` half-way through a change, and no grandchild can keep us waiting by holding a
//! pipe open. Only what changes nothing writes to a pipe, and is killed when nobody reads it.
//! Else only a command that is given up is killed.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::commands::{Command, CommandError, Commands, Output, ended_well};

/// Where programs are looked for, in this order; also the `PATH` of the children.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Starts a program in other namespaces, found there by `PATH`.
const ENTER: &str = "nsenter";
/// The most that is taken from standard output, bytes.
const STDOUT_LIMIT: u64 = 64 << 20;
/// How much of the end of standard error is kept, bytes.
const STDERR_KEPT: u64 = 64 << 10;
/// The most that is handed on at once of what is streamed, bytes.
const PIECE: usize = 64 << 10;
/// How often a command that still runs is reported.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Told about commands, so that they can be counted and timed.
pub trait Observer: Send + Sync {
    /// A command was started.
    fn started(&self, command: &Command) {
        let _ = command;
    }
    /// A command has not ended yet; told every 30 seconds.
    fn still_running(&self, command: &Command, elapsed: Duration) {
        let _ = (command, elapsed);
    }
    /// A command ended after `elapsed`; `ok` when its status was 0.
    fn ended(&self, command: &Command, elapsed: Duration, ok: bool);
}

impl<F: Fn(&Command, Duration, bool) + Send + Sync> Observer for F {
    fn ended(&self, command: &Command, elapsed: Duration, ok: bool) {
        self(command, elapsed, ok);
    }
}

/// Runs programs of this machine, found in fixed folders, with a small fixed environment.
#[derive(Clone)]
pub struct Processes {
    folders: Vec<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    on_host: Option<&'static str>,
    observer: Option<Arc<dyn Observer>>,
}

impl Default for Processes {
    fn default() -> Self {
        Self::new()
    }
}

impl Processes {
    /// Programs from the folders of system programs.
    pub fn new() -> Self {
        Self::from_folders(FOLDERS.map(PathBuf::from).to_vec())
    }

    fn from_folders(folders: Vec<PathBuf>) -> Self {
        let path = std::env::join_paths(&folders).unwrap_or_default();
        let environment = [("LC_ALL", "C".into()), ("LVM_SUPPRESS_FD_WARNINGS", "1".into()), ("PATH", path)];
        Self {
            folders,
            environment: environment.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            on_host: None,
            observer: None,
        }
    }

    /// Tells `observer` about every command.
    #[must_use]
    pub fn observed(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Adds a variable to the environment of every command, such as `LVM_SYSTEM_DIR`.
    #[must_use]
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Takes `program` from the machine instead of from the container that this process is in: it runs where the
    /// machine's first process is, with the machine's files and host name. That process must be visible here as
    /// number 1, and the folder of `LVM_SYSTEM_DIR` at the same place there.
    #[must_use]
    pub fn on_host(mut self, program: &'static str) -> Self {
        self.on_host = Some(program);
        self
    }

    /// Where a program lies; [`CommandError::Missing`] when it is in none of the folders.
    pub fn locate(&self, program: &str) -> Result<PathBuf, CommandError> {
        let candidates = self.folders.iter().map(|folder| folder.join(program));
        candidates
            .into_iter()
            .find(|candidate| is_executable(candidate))
            .ok_or_else(|| CommandError::Missing { program: program.to_owned() })
    }

    async fn run_to_end(self, command: Command, given_up: CancellationToken) -> Result<Output, CommandError> {
        let not_run = not_run(&command);
        let (stdout, stderr) = (memory_file().map_err(&not_run)?, memory_file().map_err(&not_run)?);
        let mut child = self.spawn(&command, stdout.try_clone().map_err(&not_run)?.into(), &stderr)?;
        let started = Instant::now();
        self.observe(|observer| observer.started(&command));

        let mut too_much = false;
        let meanwhile = || {
            too_much |= drop_excess(&stdout)?;
            drop_excess(&stderr).map(drop)
        };
        let ending = async {
            tokio::select! {
                status = child.wait() => return status,
                () = given_up.cancelled() => child.start_kill()?,
            }
            child.wait().await
        };
        let status = self.patiently(&command, started, meanwhile, ending).await.map_err(&not_run)?;

        let elapsed = started.elapsed();
        tracing::debug!(%command, milliseconds = elapsed.as_millis(), %status, "command ended");
        self.observe(|observer| observer.ended(&command, elapsed, status.success()));
        if too_much || stdout.metadata().map_err(&not_run)?.len() > STDOUT_LIMIT {
            let problem = format!("more than {STDOUT_LIMIT} bytes");
            return Err(CommandError::Nonsense { command: command.to_string(), problem });
        }
        let stdout = last_bytes(&stdout, STDOUT_LIMIT).map_err(&not_run)?;
        let stderr = last_bytes(&stderr, STDERR_KEPT).map_err(&not_run)?;
        Ok(Output { status: status.code(), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
    }

    /// Waits for what comes of a command, and tells of it now and then, as long as it runs; what else is done then is `meanwhile`.
    async fn patiently<T>(
        &self,
        command: &Command,
        started: Instant,
        mut meanwhile: impl FnMut() -> io::Result<()>,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(REPORT_EVERY, &mut work).await {
                return done;
            }
            let elapsed = started.elapsed();
            tracing::warn!(%command, "has been running for {} s", elapsed.as_secs());
            self.observe(|observer| observer.still_running(command, elapsed));
            meanwhile()?;
        }
    }

    /// Starts a command with that standard output.
    fn spawn(&self, command: &Command, stdout: Stdio, stderr: &File) -> Result<Child, CommandError> {
        let is_on_host = self.on_host == Some(command.program);
        let program = self.locate(if is_on_host { ENTER } else { command.program })?;
        let entering = is_on_host.then_some(["--target", "1", "--mount", "--uts", "--", command.program]);
        tokio::process::Command::new(program)
            .args(entering.iter().flatten())
            .args(&command.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr.try_clone().map_err(not_run(command))?)
            // Ctrl-C in a terminal goes to the whole foreground group; it must not reach lvm.
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(not_run(command))
    }

    async fn stream_to_end(self, command: Command, pieces: Sender<Vec<u8>>) -> Result<Output, CommandError> {
        let not_run = not_run(&command);
        let stderr = memory_file().map_err(&not_run)?;
        let mut child = self.spawn(&command, Stdio::piped(), &stderr)?;
        let started = Instant::now();
        self.observe(|observer| observer.started(&command));
        let mut printed = child.stdout.take().ok_or_else(|| not_run(io::ErrorKind::BrokenPipe.into()))?;
        let streaming = async {
            let is_wanted = loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = tokio::select! {
                    read = printed.read_buf(&mut piece) => read?,
                    () = pieces.closed() => break false,
                };
                if read == 0 {
                    break true;
                }
                if pieces.send(piece).await.is_err() {
                    break false;
                }
            };
            if !is_wanted {
                child.start_kill()?;
            }
            Ok((is_wanted, child.wait().await?))
        };
        let meanwhile = || drop_excess(&stderr).map(drop);
        let (is_wanted, status) = self.patiently(&command, started, meanwhile, streaming).await.map_err(&not_run)?;
        self.observe(|observer| observer.ended(&command, started.elapsed(), !is_wanted || status.success()));
        let stderr = last_bytes(&stderr, STDERR_KEPT).map_err(&not_run)?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let output = Output { status: status.code(), stdout: Vec::new(), stderr };
        if is_wanted { ended_well(&command, output) } else { Ok(output) }
    }

    fn observe(&self, tell: impl Fn(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            tell(observer.as_ref());
        }
    }
}

#[tonic::async_trait]
impl Commands for Processes {
    async fn run(&self, command: &Command) -> Result<Output, CommandError> {
        let running = self.clone().run_to_end(command.clone(), CancellationToken::new());
        waited_for(command, running).await
    }

    async fn run_ok_unless(&self, command: &Command, given_up: CancellationToken) -> Result<Output, CommandError> {
        let running = self.clone().run_to_end(command.clone(), given_up);
        ended_well(command, waited_for(command, running).await?)
    }

    async fn stream(&self, command: &Command, pieces: Sender<Vec<u8>>) -> Result<Output, CommandError> {
        waited_for(command, self.clone().stream_to_end(command.clone(), pieces)).await
    }
}

/// What comes of a command, which has a task of its own: when the caller's future is dropped the child is still waited for.
async fn waited_for(
    command: &Command,
    running: impl Future<Output = Result<Output, CommandError>> + Send + 'static,
) -> Result<Output, CommandError> {
    let not_run = |error: JoinError| CommandError::NotRun { command: command.to_string(), reason: error.to_string() };
    tokio::spawn(running).await.map_err(not_run)?
}

/// Why a command was not run, in the system's words.
fn not_run(command: &Command) -> impl Fn(io::Error) -> CommandError {
    let command = command.to_string();
    move |error| CommandError::NotRun { command: command.clone(), reason: error.to_string() }
}

fn is_executable(candidate: &Path) -> bool {
    candidate.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// A file in memory that is always written at its end, so that it can be cut while a child writes to it.
fn memory_file() -> io::Result<File> {
    let descriptor = memfd_create("output", MFdFlags::MFD_CLOEXEC)?;
    fcntl(descriptor.as_fd(), FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(File::from(descriptor))
}

/// Empties a file that a stuck command keeps filling; whether it was too long.
fn drop_excess(file: &File) -> io::Result<bool> {
    let excessive = file.metadata()?.len() > STDOUT_LIMIT;
    if excessive {
        file.set_len(0)?;
    }
    Ok(excessive)
}

fn last_bytes(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(limit);
    let mut bytes = vec![0; usize::try_from(length - start).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
