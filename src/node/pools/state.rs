//! The live state of a pool, and what of it keeps volumes away.

use crate::config::classes::Class;
use crate::error::{Error, Result};
use crate::host::kernel::{PoolMode, PoolStatus};
use crate::lvm::groups::View;
use crate::lvm::layout::Layout;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::pool::PoolRules;
use crate::lvm::writer::Activation;
use crate::node::Node;
use crate::node::placement::{self, Candidate, Room};

impl Node {
    /// The groups of a class, the one with the most room first; a pool that is in trouble has none.
    pub(in crate::node) async fn candidates(&self, view: &View, class: &Class) -> Result<Vec<Candidate>> {
        let mut candidates = placement::candidates(view, class);
        let Layout::Thin(rules) = &class.layout else { return Ok(candidates) };
        for candidate in &mut candidates {
            let Some(pool) = candidate.group.logical_volume(&rules.name) else { continue };
            if let Some(trouble) = self.pool_status(&candidate.group, pool).await?.as_ref().and_then(trouble) {
                candidate.room = Room::None(format!("thin pool {} {trouble}", rules.name));
            }
        }
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.largest_bytes()));
        Ok(candidates)
    }

    /// How the device of a volume is made or loaded anew.
    pub(in crate::node) async fn activation(&self, group: &VolumeGroup, logical: &LogicalVolume) -> Result<Activation> {
        let Some(rules) = self.pool_rules(&group.name, logical) else { return Ok(Activation::default()) };
        let status = match group.logical_volume(&rules.name) {
            Some(pool) => self.pool_status(group, pool).await?,
            None => None,
        };
        // lvm checks a pool when it activates it.
        Ok(Activation { mark: mark(&rules), waits: status.is_none() })
    }

    /// How a first or further volume is made in a pool. With the first one lvm loads the pool anew.
    pub(in crate::node) async fn activation_in(&self, group: &VolumeGroup, layout: &Layout) -> Result<Activation> {
        let Layout::Thin(rules) = layout else { return Ok(Activation::default()) };
        let Some(pool) = group.logical_volume(&rules.name) else { return Ok(Activation::default()) };
        let is_in = |logical: &LogicalVolume| logical.thin.as_ref().is_some_and(|thin| thin.pool == pool.name);
        let loads = !group.logical_volumes.iter().any(is_in) || self.pool_status(group, pool).await?.is_none();
        Ok(if loads { Activation { mark: mark(rules), waits: true } } else { Activation::default() })
    }

    /// Why a pool takes nothing more, and how a snapshot of an active volume is made in it. Above its mark lvm would refuse, so
    /// there the table goes without until it is loaded the next time.
    pub(in crate::node) async fn readiness(
        &self,
        group: &VolumeGroup,
        rules: &PoolRules,
    ) -> Result<(Option<String>, Activation)> {
        let waits = Activation { mark: mark(rules), waits: true };
        let Some(pool) = group.logical_volume(&rules.name) else { return Ok((None, waits)) };
        let Some(status) = self.pool_status(group, pool).await? else { return Ok((None, waits)) };
        let is_below = percent(status.used_data, status.total_data) < u64::from(rules.grow_at);
        let activation = Activation { mark: mark(rules).filter(|_| is_below), waits: false };
        Ok((trouble(&status).map(|trouble| format!("thin pool {} {trouble}", rules.name)), activation))
    }

    /// What the kernel says of a pool; nothing while it is not active.
    pub(in crate::node) async fn pool_status(
        &self,
        group: &VolumeGroup,
        pool: &LogicalVolume,
    ) -> Result<Option<PoolStatus>> {
        let status = self.kernel.pool_status(&pool.pool_mapper_uuid(group)).await;
        status.map_err(|source| {
            Error::kernel(format!("could not ask device-mapper about thin pool {}/{}", group.name, pool.name), source)
        })
    }
}

/// The mark for the pool's table.
fn mark(rules: &PoolRules) -> Option<u8> {
    (rules.grow_at < 100).then_some(rules.grow_at)
}

/// How much of the whole is in use, in whole per cent, rounded up.
fn percent(used: u64, total: u64) -> u64 {
    u64::try_from((u128::from(used) * 100).div_ceil(u128::from(total.max(1)))).unwrap_or(u64::MAX)
}

/// Why nothing more is put into the pool, whatever is still promised of it.
pub(in crate::node) fn trouble(status: &PoolStatus) -> Option<String> {
    let why = match status.mode {
        PoolMode::Failed => "has failed; see the kernel's log",
        PoolMode::ReadOnly => "is read-only; see the kernel's log",
        PoolMode::OutOfDataSpace => "has no room for data left; extend it or delete volumes",
        PoolMode::Writable if status.needs_check => "needs a check; deactivate it and run lvconvert --repair",
        PoolMode::Writable if status.used_data >= status.total_data => {
            "has no room for data left; extend it or delete volumes"
        }
        PoolMode::Writable if status.used_metadata >= status.total_metadata => {
            "has no room for metadata left; extend it with lvextend --poolmetadatasize"
        }
        PoolMode::Writable => return None,
    };
    Some(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_in_trouble_says_what_to_do() {
        let sound = PoolStatus {
            mode: PoolMode::Writable,
            needs_check: false,
            transaction_id: 1,
            low_water: 0,
            used_data: 9,
            total_data: 10,
            used_metadata: 9,
            total_metadata: 10,
            has_metadata_snapshot: false,
        };
        assert_eq!(trouble(&sound), None);
        for (status, told) in [
            (PoolStatus { mode: PoolMode::Failed, ..sound.clone() }, "failed"),
            (PoolStatus { mode: PoolMode::ReadOnly, needs_check: true, ..sound.clone() }, "read-only"),
            (PoolStatus { mode: PoolMode::OutOfDataSpace, ..sound.clone() }, "extend it or delete"),
            (PoolStatus { needs_check: true, ..sound.clone() }, "lvconvert --repair"),
            (PoolStatus { used_data: 10, ..sound.clone() }, "room for data"),
            (PoolStatus { used_metadata: 10, ..sound.clone() }, "--poolmetadatasize"),
        ] {
            assert!(trouble(&status).unwrap().contains(told), "{status:?}");
        }
    }
}
