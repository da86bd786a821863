//! How many lvm processes a call starts: by the node's own count, and by strace, which sees every `execve` of the node
//! and its children whether or not the node counts it. The larger of both is the figure.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Bench;
use super::calls::staging_folder;
use super::machine::{metric, node, rest, settle, started};

const TRACE: &str = "/run/bench/trace";
const PATIENCE: Duration = Duration::from_secs(20);

impl Bench {
    pub(super) async fn processes(&mut self) -> Result<()> {
        let calls = self.calls.clone();
        let count = self.repetitions.counted;
        let id = calls.create("pvc-counted").await?;
        let staging = staging_folder("counted")?;
        calls.stage(&id, &staging).await?;
        rest().await?;

        // Proves that the count sees what it should: a creation starts lvm.
        let watch = Watch::start().await?;
        let other = calls.create("pvc-control").await?;
        let seen = watch.stop().await?;
        ensure!(seen.traced >= 1 && seen.told >= 1.0, "the count is blind: a creation started {seen:?}");
        calls.delete(&other).await?;

        let target = |round: usize| Ok::<_, anyhow::Error>(staging_folder("targets")?.join(round.to_string()));
        for kind in ["publish", "stats", "capacity", "list", "unpublish"] {
            rest().await?;
            let watch = Watch::start().await?;
            for round in 0..count {
                match kind {
                    "publish" => calls.publish(&id, &staging, &target(round)?).await?,
                    "unpublish" => calls.unpublish(&id, &target(round)?).await?,
                    "stats" => calls.stats(&id, &target(round)?).await?,
                    "capacity" => calls.capacity().await?,
                    _ => drop(calls.list(0).await?),
                }
            }
            let seen = watch.stop().await?;
            println!("  {count} calls of {kind}: {seen:?}");
            self.figures.count(&format!("lvm_processes_{kind}"), seen.told.max(f64::from(seen.traced)), count);
        }
        calls.unstage(&id, &staging).await?;
        calls.delete(&id).await?;
        settle().await
    }
}

/// Processes of lvm that were started meanwhile.
#[derive(Debug)]
pub(super) struct Seen {
    /// By the node's own count.
    pub(super) told: f64,
    /// As strace saw them.
    pub(super) traced: u32,
    /// All programs that strace saw.
    #[expect(dead_code, reason = "shown with Debug")]
    programs: u32,
}

/// Sees every process that the node starts.
pub(super) struct Watch {
    strace: Child,
    before: f64,
}

impl Watch {
    pub(super) async fn start() -> Result<Self> {
        let before = started("lvm")?;
        let node = node()?;
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=execve,execveat", "-e", "signal=none", "-o", TRACE])
            .args(["-p", &node.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start strace")?;
        let watch = Self { strace, before };
        let start = Instant::now();
        while !fully_traced(node)? {
            if start.elapsed() > PATIENCE {
                bail!("strace does not attach to the node");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(watch)
    }

    pub(super) async fn stop(mut self) -> Result<Seen> {
        // Not only of the calls but also of what they leave to the background.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let id = self.strace.id().to_string();
        ensure!(Command::new("kill").args(["-INT", &id]).status()?.success(), "cannot end strace");
        self.strace.wait()?;
        let trace = fs::read_to_string(TRACE)?;
        let calls: Vec<&str> = trace.lines().filter(|line| line.contains("execve")).collect();
        let lvm = calls.iter().filter(|line| line.contains("/lvm\"") || line.contains("\"lvm\"")).count();
        // Asked for last: the question itself must not be among what is counted.
        ensure!(metric("quarry_commands_total")? >= self.before, "the node was started anew");
        Ok(Seen {
            told: started("lvm")? - self.before,
            traced: u32::try_from(lvm)?,
            programs: u32::try_from(calls.len())?,
        })
    }
}

/// Whether every thread of the process is traced.
fn fully_traced(process: u32) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // One that has ended meanwhile has none.
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line == "TracerPid:\t0") {
            return Ok(false);
        }
    }
    Ok(true)
}
