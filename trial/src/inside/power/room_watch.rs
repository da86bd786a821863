//! Looks at the thin pool and at the room of thick snapshots all the time: how they grow stands in the journal, and who writes
//! can wait until they have.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use quarry::host::kernel::{Kernel, SnapshotStatus};
use quarry::host::linux::Linux;
use quarry::host::processes::Processes;
use quarry::lvm::groups::{Groups, View};
use quarry::lvm::model::LogicalVolume;
use quarry::lvm::pool::growth::percent;
use tokio::sync::Mutex;

use crate::inside::kind::{POOL, POOL_GROWS_AT};
use crate::inside::power::journal::Journal;
use crate::inside::power::ledger::Entry;

const PAUSE: Duration = Duration::from_millis(50);
/// Per cent of the pool in use from which on nobody writes: a pool that is written full faster than it can grow proves nothing.
const FULL: u64 = 75;
/// Per cent of a thick snapshot's room that are in use when it grows.
const RESERVE_GROWS_AT: u64 = 70;
/// As `FULL`, of a thick snapshot's room.
const RESERVE_FULL: u64 = 80;

/// Reads the volume group as the node does, but by itself.
pub struct RoomWatch {
    group: String,
    groups: Groups,
    kernel: Arc<Linux>,
    /// Per cent of the pool in use, and of the fullest thick snapshot's room.
    pool: AtomicU64,
    reserve: AtomicU64,
    /// One look at a time.
    looking: Mutex<()>,
}

impl RoomWatch {
    pub fn new(group: &str) -> Self {
        let kernel = Arc::new(Linux::new());
        let groups = Groups::new(Arc::<Linux>::clone(&kernel), Arc::new(Processes::new()));
        Self {
            group: group.to_owned(),
            groups,
            kernel,
            pool: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
            looking: Mutex::new(()),
        }
    }

    /// Looks without end.
    pub async fn watch(&self, journal: &Journal) -> Result<()> {
        loop {
            self.look(journal).await?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Looks once; a change is written to the journal.
    pub async fn look(&self, journal: &Journal) -> Result<()> {
        let _alone = self.looking.lock().await;
        let view = self.groups.read().await?;
        self.look_at_pool(&view, journal).await?;
        self.look_at_reserves(&view, journal).await
    }

    async fn look_at_pool(&self, view: &View, journal: &Journal) -> Result<()> {
        let pool = view.logical_volume_in(&self.group, POOL).filter(|(_, pool)| pool.pool.is_some());
        let (mut extents, mut used) = (0, 0);
        if let Some((group, pool)) = pool {
            extents = pool.extents;
            let status = self.kernel.pool_status(&pool.pool_mapper_uuid(group)).await;
            let Some(status) = in_time(status)? else { return Ok(()) };
            used = status.map_or(0, |status| percent(status.used_data, status.total_data));
        }
        self.pool.store(used, Ordering::Relaxed);
        let now = Entry::Pool { extents, is_at_mark: used >= POOL_GROWS_AT };
        if journal.ledger().pool.as_ref() != Some(&now) {
            journal.write(&now)?;
        }
        Ok(())
    }

    async fn look_at_reserves(&self, view: &View, journal: &Journal) -> Result<()> {
        let known = journal.ledger();
        let (mut reserves, mut fullest) = (BTreeMap::new(), 0);
        if let Some(group) = view.group(&self.group) {
            let thick = |logical: &&Arc<LogicalVolume>| logical.thin.is_none() && !logical.snapshot_of.is_empty();
            for logical in group.logical_volumes.iter().filter(thick) {
                let status = self.kernel.snapshot_status(&logical.mapper_uuid(group)).await;
                let Some(status) = in_time(status)? else { return Ok(()) };
                let name = format!("{} {}", logical.name, logical.uuid);
                let used = match status {
                    Some(SnapshotStatus::Kept { used_sectors, total_sectors }) => percent(used_sectors, total_sectors),
                    Some(SnapshotStatus::Lost) => {
                        // It may be deleted before anybody checks.
                        if !known.lost.contains(&name) {
                            journal.write(&Entry::Lost { snapshot: name.clone() })?;
                        }
                        0
                    }
                    None => 0,
                };
                fullest = fullest.max(used);
                reserves.insert(name, (logical.extents, used >= RESERVE_GROWS_AT));
            }
        }
        self.reserve.store(fullest, Ordering::Relaxed);
        let known = known.reserves;
        let gone = known.keys().filter(|name| !reserves.contains_key(*name)).map(|name| (name.clone(), (0, false)));
        let new = reserves.iter().filter(|(name, now)| known.get(*name) != Some(*now));
        for (snapshot, (extents, is_at_mark)) in new.map(|(name, now)| (name.clone(), *now)).chain(gone) {
            journal.write(&Entry::Reserve { snapshot, extents, is_at_mark })?;
        }
        Ok(())
    }

    /// Waits until more can be written.
    pub async fn room(&self) {
        while self.pool.load(Ordering::Relaxed) >= FULL || self.reserve.load(Ordering::Relaxed) >= RESERVE_FULL {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What the kernel says; nothing when it does not in time, as of a device that is suspended, or whose disk is busy.
fn in_time<T>(status: io::Result<T>) -> Result<Option<T>> {
    match status {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
        status => Ok(Some(status?)),
    }
}
