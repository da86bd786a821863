//! What the node takes of the machine's memory once it has seen some life.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use super::Bench;
use super::calls::{Calls, staging_folder};
use super::machine::{node, rest};
use crate::bench::{kibibytes, mebibytes};

/// Callers at once, as the sidecars and the kubelet are a few.
const CALLERS: usize = 8;
/// The node gives back what it does not need any more this often; without waiting for it, what is measured would be when it last
/// did: 15 to 22 MiB after the same calls.
const KEEPS_HOUSE: Duration = Duration::from_secs(11);
/// One call in so many makes or removes a volume.
const MUTATION_EVERY: usize = 50;

impl Bench {
    pub(super) async fn memory(&mut self) -> Result<()> {
        let process = node()?;
        println!("  before: {}", describe(process)?);
        let ids = self.create_at_once("pvc-memory-", self.repetitions.existing).await?;
        println!("  with {} volumes: {}", ids.len(), describe(process)?);
        let (id, staging) = (ids[0].clone(), staging_folder("memory")?);
        self.calls.stage(&id, &staging).await?;

        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let work = Caller { calls: self.calls.clone(), number: caller, id: id.clone(), staging: staging.clone() };
            callers.spawn(work.run(self.repetitions.mixed / CALLERS));
        }
        callers.join_all().await.into_iter().collect::<Result<()>>()?;
        rest().await?;
        println!("  after {} calls: {}", self.repetitions.mixed, describe(process)?);
        tokio::time::sleep(KEEPS_HOUSE).await;
        println!("  at rest: {}", describe(process)?);
        self.figures.value("rss_500_mib", mebibytes(kibibytes(process, "VmRSS")? << 10));
        self.calls.unstage(&id, &staging).await
    }
}

/// One of several that call at the same time.
struct Caller {
    calls: Calls,
    number: usize,
    id: String,
    staging: PathBuf,
}

impl Caller {
    async fn run(self, calls: usize) -> Result<()> {
        let mut own = None;
        let target = staging_folder("targets")?.join(format!("caller-{}", self.number));
        for number in 0..calls {
            if number % MUTATION_EVERY == MUTATION_EVERY - 1 {
                own = match own {
                    None => Some(self.calls.create(&format!("pvc-of-{}-{number}", self.number)).await?),
                    Some(id) => self.calls.delete(&id).await.map(|()| None)?,
                };
                continue;
            }
            match number % 7 {
                0 => self.calls.capacity().await?,
                1 => drop(self.calls.list(0).await?),
                2 => self.calls.get(&self.id).await?,
                3 => self.calls.stats(&self.id, &self.staging).await?,
                4 => drop(self.calls.list(100).await?),
                // One at a time per volume: others are told to come back, which is a call like any other.
                5 => drop(self.calls.publish(&self.id, &self.staging, &target).await),
                _ => drop(self.calls.unpublish(&self.id, &target).await),
            }
            self.calls.probe().await?;
        }
        // The last publication may have met another caller's.
        while self.calls.unpublish(&self.id, &target).await.is_err() {
            tokio::task::yield_now().await;
        }
        match own {
            Some(id) => self.calls.delete(&id).await,
            None => Ok(()),
        }
    }
}

/// What the node has of the machine's memory, for people.
pub(super) fn describe(process: u32) -> Result<String> {
    let keys = ["VmRSS", "VmHWM", "RssAnon", "RssFile"];
    let parts: Result<Vec<String>> =
        keys.iter().map(|key| Ok(format!("{key} {:.1} MiB", mebibytes(kibibytes(process, key)? << 10)))).collect();
    let threads = std::fs::read_dir(format!("/proc/{process}/task"))?.count();
    Ok(format!("{}, {threads} threads", parts?.join(", ")))
}
