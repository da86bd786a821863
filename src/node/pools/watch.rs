//! Looks after the pools while the node runs: they are activated, and grow when the kernel tells that they fill. Nothing is
//! asked over and over: device-mapper's events wake it. The slow look beside them is for what raises no event, such as a volume
//! group that was made larger.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::host::kernel::PoolStatus;
use crate::lvm::groups::View;
use crate::lvm::layout::Layout;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::pool::PoolRules;
use crate::lvm::pool::growth::{Growth, is_due};
use crate::lvm::writer::Activation;
use crate::node::Node;
use crate::node::placement::why_not_ours;
use crate::node::pools::state::mark;

/// How often is looked without an event.
const IDLE: Duration = Duration::from_mins(1);
/// How long until growth that could not be done is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Each lvm command raises several events; one look is for all.
const REST: Duration = Duration::from_millis(100);

/// A pool that is watched.
struct Watched {
    group: String,
    pool: String,
    uuid: String,
    rules: PoolRules,
    /// Before then its growth is not tried again.
    retry: Option<Instant>,
    /// Before then its mark is not loaded again: a tiny pool may have none.
    remark: Option<Instant>,
}

/// Works until told to stop.
pub async fn run(node: Arc<Node>, stop: CancellationToken) {
    let (mut watched, mut activated) = (Vec::new(), HashSet::new());
    let mut next_look = Instant::now();
    loop {
        if next_look <= Instant::now() {
            match node.pools_to_watch(&mut activated).await {
                Ok(pools) => watched = keep_pauses(watched, pools),
                Err(error) => tracing::warn!(%error, "could not look for thin pools"),
            }
            next_look = Instant::now() + IDLE;
        }
        for pool in &mut watched {
            node.look_after(pool).await;
        }
        let retry = watched.iter().filter_map(|pool| pool.retry).min();
        let event = async {
            if let Err(error) = node.kernel.mapper_event().await {
                tracing::warn!(%error, "could not wait for device-mapper");
                sleep(RETRY).await;
            }
            sleep(REST).await;
        };
        tokio::select! {
            () = event => {}
            () = node.new_pool.notified() => next_look = Instant::now(),
            () = sleep_until(retry.map_or(next_look, |retry| retry.min(next_look))) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn keep_pauses(before: Vec<Watched>, mut now: Vec<Watched>) -> Vec<Watched> {
    for pool in before {
        if let Some(same) = now.iter_mut().find(|now| now.uuid == pool.uuid) {
            (same.retry, same.remark) = (pool.retry, pool.remark);
        }
    }
    now
}

impl Node {
    /// The pools of the classes. Those that are seen for the first time are activated: a pool is to be active while the node
    /// lives, but one that an administrator deactivated stays so.
    async fn pools_to_watch(&self, activated: &mut HashSet<String>) -> Result<Vec<Watched>> {
        let view = self.groups.read().await?;
        let mut watched = Vec::new();
        for (group, pool, rules) in self.class_pools(&view) {
            let uuid = pool.pool_mapper_uuid(&group);
            if activated.insert(uuid.clone())
                && let Err(error) = self.activate_pool(&group.name, &pool.name).await
            {
                tracing::warn!(%error, group = group.name, pool = pool.name, "could not activate a thin pool");
            }
            if self.is_own_pool(&pool) {
                watched.push(Watched {
                    group: group.name.clone(),
                    pool: pool.name.clone(),
                    uuid,
                    rules,
                    retry: None,
                    remark: None,
                });
            }
        }
        Ok(watched)
    }

    /// The thin pools that the classes name and that are there, each once.
    pub(in crate::node) fn class_pools(&self, view: &View) -> Vec<(Arc<VolumeGroup>, Arc<LogicalVolume>, PoolRules)> {
        let classes = self.classes.current();
        let names: HashSet<&String> = classes
            .iter()
            .filter_map(|class| match &class.layout {
                Layout::Thin(rules) => Some(&rules.name),
                Layout::Linear => None,
            })
            .collect();
        let usable = view.groups.iter().filter(|group| why_not_ours(group).is_none());
        let of_group = |group: &Arc<VolumeGroup>| {
            let pools = names.iter().filter_map(|name| {
                let pool = group.logical_volume(name).filter(|pool| pool.pool.is_some())?;
                Some((Arc::clone(group), pool.clone(), self.rules_of(&group.name, name)?))
            });
            pools.collect::<Vec<_>>()
        };
        usable.flat_map(of_group).collect()
    }

    async fn activate_pool(&self, group: &str, pool: &str) -> Result<()> {
        let turn = self.writer.turn(group).await;
        let view = self.groups.read().await?;
        let Some((group, pool)) = view.logical_volume_in(group, pool) else { return Ok(()) };
        self.active_pool_status(&turn, group, pool).await?;
        self.keep_running(&turn, group, pool).await
    }

    async fn look_after(&self, pool: &mut Watched) {
        if pool.retry.is_some_and(|retry| retry > Instant::now()) {
            return;
        }
        let needed = match self.kernel.pool_status(&pool.uuid).await {
            Ok(Some(status)) => self.tend(pool, &status).await,
            Ok(None) => Ok(Growth::NotDue),
            Err(error) => Err(Error::kernel("could not ask device-mapper about a thin pool", error)),
        };
        let (group, name, was_due) = (&pool.group, &pool.pool, pool.retry.is_some());
        pool.retry = match needed {
            Ok(Growth::NotDue | Growth::To { .. }) => None,
            Ok(Growth::NoRoom) => {
                if !was_due {
                    tracing::warn!(group, pool = name, "a thin pool fills, and there is no room to grow it");
                }
                Some(Instant::now() + RETRY)
            }
            Err(error) => {
                tracing::warn!(%error, group, pool = name, "could not look after a thin pool; trying again");
                Some(Instant::now() + RETRY)
            }
        };
    }

    async fn tend(&self, pool: &mut Watched, status: &PoolStatus) -> Result<Growth> {
        if is_due(&pool.rules, status) {
            return self.grow_pool(&pool.group, &pool.pool).await;
        }
        let is_unmarked = status.low_water == 0 && mark(&pool.rules).is_some();
        if is_unmarked && pool.remark.is_none_or(|remark| remark <= Instant::now()) {
            pool.remark = Some(Instant::now() + IDLE);
            self.load_mark(pool).await?;
        }
        Ok(Growth::NotDue)
    }

    /// Loads the table of a pool with its mark, which a command of somebody else, or one above the mark, has left out.
    async fn load_mark(&self, pool: &Watched) -> Result<()> {
        let turn = self.writer.turn(&pool.group).await;
        let view = self.groups.read().await?;
        let Some((group, logical)) = view.logical_volume_in(&pool.group, &pool.pool) else { return Ok(()) };
        if self.pool_status(group, logical).await?.is_some_and(|status| status.low_water == 0) {
            let activation = Activation { mark: mark(&pool.rules), waits: false };
            self.writer.refresh(&turn, group, &pool.pool, activation).await?;
        }
        Ok(())
    }
}
