//! The machine around the node: bare commands, what still runs, and what the node says of itself.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::METRICS;

/// Longer than the node lets a volume group rest before it writes the backup of its metadata.
const REST: Duration = Duration::from_millis(3500);
const PATIENCE: Duration = Duration::from_mins(2);
const STEP: Duration = Duration::from_millis(5);

/// Runs a command to its end; how long that took, from before the fork to after the wait.
pub(super) fn bare(words: &[&str]) -> Result<Duration> {
    let errors = "/run/bench/stderr";
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(errors)?);
    let start = Instant::now();
    let status = command.spawn().with_context(|| format!("cannot start {}", words[0]))?.wait()?;
    let took = start.elapsed();
    if !status.success() {
        bail!("`{}`: {status}\n{}", words.join(" "), fs::read_to_string(errors)?);
    }
    Ok(took)
}

/// Runs a command that is not measured.
pub(super) fn untimed(words: &[&str]) -> Result<()> {
    bare(words).map(drop)
}

/// Waits until nothing of the last call or command goes on: no deletion, no lvm, no event at udev.
pub(super) async fn settle() -> Result<()> {
    let start = Instant::now();
    loop {
        // In this order: a deletion that is pending has its lvm still to come.
        let pending = metric("quarry_wipes_pending")?;
        let busy = pending > 0.0 || runs("lvm")? || fs::exists("/run/udev/queue")?;
        if !busy {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("the machine does not come to rest: {pending} deletions pending");
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Waits until the node's own late work is done too.
pub(super) async fn rest() -> Result<()> {
    loop {
        settle().await?;
        let before = started("lvm")?;
        tokio::time::sleep(REST).await;
        if started("lvm")? <= before {
            return settle().await;
        }
    }
}

fn runs(program: &str) -> Result<bool> {
    Ok(processes()?.any(|(_, name)| name == program))
}

/// The process id of the node.
pub(super) fn node() -> Result<u32> {
    processes()?.find(|(_, name)| name == "quarry").map(|(id, _)| id).context("no node runs")
}

fn processes() -> Result<impl Iterator<Item = (u32, String)>> {
    Ok(fs::read_dir("/proc")?.filter_map(|entry| {
        let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        Some((id, name.trim_end().to_owned()))
    }))
}

/// How many processes of a program the node says that it started; all programs for "".
pub(super) fn started(program: &str) -> Result<f64> {
    let label = if program.is_empty() { String::new() } else { format!("program=\"{program}\"") };
    metric(&format!("quarry_commands_total{{{label}"))
}

/// The sum of all series that begin so.
pub(super) fn metric(prefix: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(METRICS).context("the node serves no metrics")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let series = answer.lines().filter(|line| line.starts_with(prefix));
    Ok(series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}
