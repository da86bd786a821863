//! A node with a crowd of volumes and snapshots, some of them mounted, that nobody changes: what the calls take which Kubernetes
//! makes again and again, how many processes they start, and what memory the node takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Bench;
use super::calls::{Calls, staging_folder};
use super::crowd;
use super::machine::{node, rest};
use super::memory::describe;
use super::processes::Watch;
use super::turns::WARM_UP;
use crate::bench::samples::Samples;
use crate::bench::{kibibytes, mebibytes};

/// Between two rounds of calls about every volume. Kubernetes takes a minute or more.
const PAUSE: Duration = Duration::from_secs(5);

/// A volume that is in use.
struct Mounted {
    id: String,
    target: PathBuf,
}

impl Bench {
    pub(super) async fn crowd(&mut self) -> Result<()> {
        let (calls, crowd) = (self.calls.clone(), self.repetitions.crowd);
        let mut mounted = Vec::new();
        for id in self.create_at_once("pvc-mounted-", crowd.mounted).await? {
            let staging = staging_folder(&format!("mounted-{}", mounted.len()))?;
            let target = staging_folder("targets")?.join(format!("mounted-{}", mounted.len()));
            calls.stage(&id, &staging).await?;
            calls.publish(&id, &staging, &target).await?;
            mounted.push(Mounted { id, target });
        }
        crowd::gather(&calls, crowd.volumes, crowd.snapshots).await?;
        let (volumes, snapshots) = (calls.list(0).await?, calls.list_snapshots().await?);
        ensure!((volumes, snapshots) == (crowd.volumes, crowd.snapshots), "{volumes} volumes, {snapshots} snapshots");
        rest().await?;

        let capacity = timed(crowd.calls, async || calls.capacity().await).await?;
        self.figures.percentiles("capacity_{}_ms", &capacity);
        let list = timed(crowd.calls, async || calls.list_snapshots().await.map(drop)).await?;
        self.figures.percentiles("list_snapshots_{}_ms", &list);

        let watch = Watch::start().await?;
        let (start, mut rounds) = (Instant::now(), 0);
        while start.elapsed() < crowd.polled {
            poll(&calls, &mounted).await?;
            rounds += 1;
            tokio::time::sleep(PAUSE.min(crowd.polled)).await;
        }
        let (polled, seen) = (start.elapsed(), watch.stop().await?);
        println!("  {rounds} rounds about {} volumes in {polled:.0?}: {seen:?}", mounted.len());
        let per_minute = seen.told.max(f64::from(seen.traced)) * 60.0 / polled.as_secs_f64();
        self.figures.count("lvm_processes_idle_per_min", per_minute, rounds);
        let process = node()?;
        println!("  {}", describe(process)?);
        self.figures.value("rss_mib", mebibytes(kibibytes(process, "VmRSS")? << 10));
        Ok(())
    }
}

/// What so many calls take, one after the other.
async fn timed(calls: usize, call: impl AsyncFn() -> Result<()>) -> Result<Samples> {
    let mut took = Samples::default();
    for round in 0..calls + WARM_UP {
        let start = Instant::now();
        call().await?;
        if round >= WARM_UP {
            took.push(start.elapsed());
        }
    }
    Ok(took)
}

/// What kubelet, the health monitor and the sidecars ask.
async fn poll(calls: &Calls, mounted: &[Mounted]) -> Result<()> {
    for volume in mounted {
        calls.stats(&volume.id, &volume.target).await?;
        calls.get(&volume.id).await?;
        calls.health(&volume.id).await?;
    }
    calls.list(0).await?;
    calls.list_snapshots().await?;
    calls.capacity().await?;
    calls.probe().await
}
