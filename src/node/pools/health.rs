//! What is wrong with a pool, for its volumes' users and for the node.

use std::collections::HashMap;

use crate::error::Result;
use crate::host::kernel::PoolStatus;
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::pool::growth::{Growth, growth, is_due};
use crate::node::Node;
use crate::node::health::Condition;
use crate::node::pools::grow::usable;
use crate::node::pools::trouble::{Trouble, out_of_step};
use crate::node::volume::Volume;

impl Node {
    /// What is wrong with the pools that the classes use.
    pub(in crate::node) async fn pools_health(&self, view: &View) -> Result<Vec<Condition>> {
        let mut conditions = Vec::new();
        for (group, pool, _) in self.class_pools(view) {
            conditions.extend(self.pool_health(&group, &pool).await?);
        }
        Ok(conditions)
    }

    /// What is wrong with the pools that these volumes are in, by the pool's UUID.
    pub(in crate::node) async fn health_of_pools(&self, volumes: &[Volume]) -> Result<HashMap<String, Vec<Condition>>> {
        let mut known = HashMap::new();
        for volume in volumes {
            let Some(pool) = volume.pool() else { continue };
            if !known.contains_key(&pool.uuid) {
                known.insert(pool.uuid.clone(), self.pool_health(&volume.group, pool).await?);
            }
        }
        Ok(known)
    }

    /// What is wrong with a pool.
    pub(in crate::node) async fn pool_health(
        &self,
        group: &VolumeGroup,
        pool: &LogicalVolume,
    ) -> Result<Vec<Condition>> {
        let found = self.pool_trouble(group, pool).await?.1;
        let condition = |trouble: Trouble| Condition {
            severity: trouble.severity(),
            reason: trouble.reason(),
            message: format!("thin pool {}/{} {trouble}", group.name, pool.name),
        };
        Ok(found.map(condition).into_iter().collect())
    }

    /// What the kernel says of a pool, and what is wrong with it.
    pub(super) async fn pool_trouble(
        &self,
        group: &VolumeGroup,
        pool: &LogicalVolume,
    ) -> Result<(Option<PoolStatus>, Option<Trouble>)> {
        let (status, trouble) = self.pool_now(group, pool).await?;
        let trouble = match &status {
            Some(status) if trouble.is_none() => self.hidden_trouble(group, pool, status).await?,
            _ => trouble,
        };
        Ok((status, trouble))
    }

    /// What is wrong with a pool for which the kernel sees no trouble.
    async fn hidden_trouble(
        &self,
        group: &VolumeGroup,
        pool: &LogicalVolume,
        status: &PoolStatus,
    ) -> Result<Option<Trouble>> {
        if let Some(out_of_step) = pool.pool.as_ref().and_then(|pool| out_of_step(pool, status))
            && self.is_at_rest(group, pool, status).await?
        {
            return Ok(Some(out_of_step));
        }
        let Some((class, rules)) = self.class_of_pool(&group.name, &pool.name) else { return Ok(None) };
        if !self.is_own_pool(pool) {
            return Ok(is_due(&rules, status).then_some(Trouble::FillingUntended));
        }
        let needs = growth(&rules, group, pool, status, usable(group, &class));
        Ok((needs == Growth::NoRoom).then_some(Trouble::Filling))
    }

    /// Whether neither lvm nor the pool counts another change by now. A command that runs changes both, one after the other, so
    /// they seem to differ meanwhile.
    async fn is_at_rest(&self, group: &VolumeGroup, pool: &LogicalVolume, before: &PoolStatus) -> Result<bool> {
        let view = self.groups.read().await?;
        let Some(after) = self.pool_status(group, pool).await? else { return Ok(false) };
        let now = view.logical_volume_in(&group.name, &pool.name).and_then(|(_, pool)| pool.pool.as_ref());
        Ok(before.transaction_id == after.transaction_id && now == pool.pool.as_ref())
    }
}
