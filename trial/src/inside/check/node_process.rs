//! The `quarry node` under test, a child of this process.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use quarry::csi::v1;

use crate::client::Client;
use crate::site::{NODE_NAME, SOCKET};

use super::tools::{answered, run};

/// Where it serves its metrics.
const METRICS: &str = "127.0.0.1:9808";
/// How long it may take to serve, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running node.
#[derive(Debug)]
pub(super) struct NodeProcess {
    child: Child,
    log: PathBuf,
}

impl NodeProcess {
    /// Starts it, with further arguments; it does not serve yet.
    pub(super) fn start(program: &Path, classes: &Path, log: &Path, further: &[String]) -> Result<Self> {
        std::fs::create_dir_all("/run/quarry")?;
        let written = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(["node", "--node-name", NODE_NAME, "--csi-endpoint", &format!("unix://{SOCKET}")])
            .args(["--metrics", METRICS, "--grace", "4", "--classes"])
            .arg(classes)
            .args(further)
            .env("QUARRY_LOG", "debug")
            .stdin(std::process::Stdio::null())
            .stdout(written.try_clone()?)
            .stderr(written)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Waits until it answers.
    pub(super) async fn client(&mut self) -> Result<Client> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let last = run(&["tail", "-n", "3", &self.log.to_string_lossy()])?;
                bail!("quarry node ended at once: {status}: {last}");
            }
            match answering().await {
                Ok(client) => return Ok(client),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Whether it still runs.
    pub(super) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// SIGKILL, as if it had crashed.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGKILL of it and of its children, at once.
    pub(super) fn kill_with_children(self) -> Result<()> {
        let tasks = format!("/proc/{0}/task", self.child.id());
        // Stopped, it starts no more while they are listed.
        run(&["kill", "-STOP", &self.child.id().to_string()])?;
        let mut children = String::new();
        for task in std::fs::read_dir(tasks)? {
            children += &std::fs::read_to_string(task?.path().join("children"))?;
        }
        self.kill()?;
        for child in children.split_whitespace() {
            // One that has ended meanwhile is no failure.
            run(&["kill", "-KILL", child]).ok();
        }
        Ok(())
    }

    /// SIGTERM; does not wait.
    pub(super) fn terminate(&self) -> Result<()> {
        run(&["kill", "-TERM", &self.child.id().to_string()]).map(drop)
    }

    /// Waits for its end.
    pub(super) async fn ended(mut self) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > PATIENCE {
                self.child.kill()?;
                bail!("it did not end within {PATIENCE:?} after SIGTERM");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A client that was answered. A connection alone may be one to the last node's socket, which a child that it was just
/// starting when it died has open for a moment.
async fn answering() -> Result<Client> {
    let mut client = Client::connect(SOCKET).await?;
    answered(client.identity.probe(v1::ProbeRequest {}).await)?;
    Ok(client)
}

/// What the node answers to an HTTP request: the status line and the body.
pub fn metrics(path: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(METRICS).context("the metrics are not served")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: check\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}
