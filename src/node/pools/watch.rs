//! Looks after the pools while the node runs: they are activated, and grow when the kernel tells that they fill. Nothing is
//! asked over and over: device-mapper's events wake it. The slow look beside them is for what raises no event, such as a volume
//! group that was made larger.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::lvm::groups::View;
use crate::lvm::layout::Layout;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::pool::PoolRules;
use crate::lvm::pool::growth::{Growth, is_due};
use crate::node::attended::{Attended, Same, Wakes};
use crate::node::placement::why_not_ours;
use crate::node::pools::state::mark;
use crate::node::{Node, why_hidden};

/// How often is looked without an event.
const IDLE: Duration = Duration::from_mins(1);
/// How long until what could not be done is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Each lvm command raises several events; one look is for all.
const REST: Duration = Duration::from_millis(100);

/// A pool that is watched.
struct Watched {
    group: String,
    pool: String,
    uuid: String,
    /// Whether it is this driver's to grow.
    is_own: bool,
    /// Before then what could not be done is not tried again.
    retry: Option<Instant>,
    /// What could not be done and why, as it was logged.
    trouble: Option<String>,
    /// Before then its mark is not loaded again: a tiny pool may have none.
    remark: Option<Instant>,
}

/// Works until told to stop.
pub async fn run(node: Arc<Node>, stop: CancellationToken) {
    let mut pools = Attended::default();
    let mut next_look = Instant::now();
    loop {
        if next_look <= Instant::now() {
            match node.groups.read().await {
                Ok(view) => pools.keep((&node, &view), node.pools_to_watch(&view), attend),
                Err(error) => tracing::warn!(%error, "could not look for thin pools"),
            }
            next_look = Instant::now() + IDLE;
        }
        pools.wake();
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
            () = sleep_until(next_look) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn attend(node: Arc<Node>, mut pool: Watched, mut wakes: Wakes) {
    loop {
        if pool.retry.is_none_or(|retry| retry <= Instant::now()) {
            node.look_after(&mut pool).await;
        }
        if !wakes.pause(pool.retry.unwrap_or_else(|| Instant::now() + IDLE)).await {
            return;
        }
    }
}

impl Node {
    /// The pools of the classes, each with what must be as it was for its task to go on.
    fn pools_to_watch(&self, view: &View) -> Vec<(Same, Watched)> {
        let watched = |(group, pool, _): (Arc<VolumeGroup>, Arc<LogicalVolume>, PoolRules)| {
            let uuid = pool.pool_mapper_uuid(&group);
            let is_own = self.is_own_pool(&pool);
            let group = group.name.clone();
            let same = Same { group: group.clone(), what: format!("{uuid} {} {is_own}", pool.name) };
            (same, Watched { group, pool: pool.name.clone(), uuid, is_own, retry: None, trouble: None, remark: None })
        };
        self.class_pools(view).into_iter().map(watched).collect()
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

    async fn look_after(&self, pool: &mut Watched) {
        let trouble = match self.tend(pool).await {
            Ok(Growth::NotDue | Growth::To { .. }) => None,
            Ok(Growth::NoRoom) => Some(String::from("it fills, and there is no room to grow it")),
            Err(error) => Some(error.to_string()),
        };
        pool.retry = trouble.is_some().then(|| Instant::now() + RETRY);
        // A pool whose disks are gone is looked for as long as the node runs; once is enough to be told of it.
        if let Some(trouble) = trouble.as_ref().filter(|trouble| pool.trouble.as_ref() != Some(*trouble)) {
            let (group, name) = (&pool.group, &pool.pool);
            tracing::warn!(trouble, group, pool = name, "could not look after a thin pool; trying again");
        }
        pool.trouble = trouble;
    }

    async fn tend(&self, pool: &mut Watched) -> Result<Growth> {
        self.activate_once(&pool.group, &pool.pool, &pool.uuid).await?;
        let Some(rules) = self.rules_of(&pool.group, &pool.pool).filter(|_| pool.is_own) else {
            return Ok(Growth::NotDue);
        };
        let Some(status) = self.status_of_pool(&pool.uuid).await? else { return Ok(Growth::NotDue) };
        if is_due(&rules, &status) {
            return self.grow_pool(&pool.group, &pool.pool).await;
        }
        let is_unmarked = status.low_water == 0 && mark(&rules).is_some();
        if is_unmarked && pool.remark.is_none_or(|remark| remark <= Instant::now()) {
            self.load_mark(pool).await?;
            pool.remark = Some(Instant::now() + IDLE);
        }
        Ok(Growth::NotDue)
    }

    /// Loads the table of a pool with its mark, which a command of somebody else, or one above the mark, has left out.
    async fn load_mark(&self, pool: &Watched) -> Result<()> {
        let turn = self.writer.turn(&pool.group).await;
        let view = self.groups.read().await?;
        let Some((group, logical)) = view.logical_volume_in(&pool.group, &pool.pool) else {
            return why_hidden(&view, &pool.group, &format!("thin pool {}", pool.pool)).map_or(Ok(()), Err);
        };
        if self.pool_status(group, logical).await?.is_some_and(|status| status.low_water == 0) {
            self.refresh(&turn, group, logical).await?;
        }
        Ok(())
    }
}
