//! Looks at the thin pool all the time: how it grows stands in the journal, and who writes can wait until it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use quarry::host::kernel::Kernel;
use quarry::host::linux::Linux;
use quarry::host::processes::Processes;
use quarry::lvm::groups::Groups;
use quarry::lvm::pool::growth::percent;

use crate::inside::kind::{POOL, POOL_GROWS_AT};
use crate::inside::power::journal::Journal;
use crate::inside::power::ledger::Entry;

const PAUSE: Duration = Duration::from_millis(50);
/// Per cent of the pool in use from which on nobody writes: a pool that is written full faster than it can grow proves nothing.
const FULL: u64 = 75;

/// Reads the pool as the node does, but by itself.
pub struct PoolWatch {
    group: String,
    groups: Groups,
    kernel: Arc<Linux>,
    percent: AtomicU64,
}

impl PoolWatch {
    pub fn new(group: &str) -> Self {
        let kernel = Arc::new(Linux::new());
        let groups = Groups::new(Arc::<Linux>::clone(&kernel), Arc::new(Processes::new()));
        Self { group: group.to_owned(), groups, kernel, percent: AtomicU64::new(0) }
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
        let view = self.groups.read().await?;
        let pool = view.logical_volume_in(&self.group, POOL).filter(|(_, pool)| pool.pool.is_some());
        let (mut extents, mut used) = (0, 0);
        if let Some((group, pool)) = pool {
            extents = pool.extents;
            let status = self.kernel.pool_status(&pool.pool_mapper_uuid(group)).await?;
            used = status.map_or(0, |status| percent(status.used_data, status.total_data));
        }
        self.percent.store(used, Ordering::Relaxed);
        let now = Entry::Pool { extents, is_at_mark: used >= POOL_GROWS_AT };
        if journal.ledger().pool.as_ref() != Some(&now) {
            journal.write(&now)?;
        }
        Ok(())
    }

    /// Waits until more can be written.
    pub async fn room(&self) {
        while self.percent.load(Ordering::Relaxed) >= FULL {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
