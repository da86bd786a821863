//! The live state of a pool, and what of it keeps volumes away.

use std::io::ErrorKind;

use crate::config::classes::Class;
use crate::error::{Error, Result};
use crate::host::kernel::PoolStatus;
use crate::lvm::groups::View;
use crate::lvm::layout::Layout;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::pool::PoolRules;
use crate::lvm::pool::growth::is_due;
use crate::lvm::writer::{Activation, Turn};
use crate::node::Node;
use crate::node::placement::{self, Candidate, Room};
use crate::node::pools::trouble::{Trouble, trouble};
use crate::node::volume::Volume;

impl Node {
    /// The groups of a class, the one with the most room first; a pool that is in trouble has none.
    pub(in crate::node) async fn candidates(&self, view: &View, class: &Class) -> Result<Vec<Candidate>> {
        let mut candidates = placement::candidates(view, class);
        let Layout::Thin(rules) = &class.layout else { return Ok(candidates) };
        for candidate in &mut candidates {
            let Some(pool) = candidate.group.logical_volume(&rules.name) else { continue };
            if let (_, Some(trouble)) = self.pool_now(&candidate.group, pool).await? {
                candidate.room = Room::None(format!("thin pool {} {trouble}", rules.name));
            }
        }
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.largest_bytes()));
        Ok(candidates)
    }

    /// How the device of a volume, or of a pool, is made or loaded anew.
    pub(in crate::node) async fn activation(&self, group: &VolumeGroup, logical: &LogicalVolume) -> Result<Activation> {
        let Some(rules) = self.pool_rules(&group.name, logical) else { return Ok(Activation::default()) };
        let status = match group.logical_volume(&rules.name) {
            Some(pool) => self.pool_status(group, pool).await?,
            None => None,
        };
        // lvm checks a pool when it activates it.
        Ok(Activation { mark: mark(&rules), waits: status.is_none() })
    }

    /// How volumes are removed, if one of them is thin.
    pub(in crate::node) async fn activation_of_any(&self, group: &VolumeGroup, names: &[String]) -> Result<Activation> {
        let mut volumes = names.iter().filter_map(|name| group.logical_volume(name));
        match volumes.find(|logical| logical.thin.is_some()) {
            Some(thin) => self.activation(group, thin).await,
            None => Ok(Activation::default()),
        }
    }

    /// How a first or further volume is made in a pool. With the first one lvm loads the pool anew.
    pub(in crate::node) async fn activation_in(&self, group: &VolumeGroup, layout: &Layout) -> Result<Activation> {
        let Layout::Thin(rules) = layout else { return Ok(Activation::default()) };
        let Some(pool) = group.logical_volume(&rules.name) else { return Ok(Activation::default()) };
        let loads = group.in_pool(&pool.name).next().is_none() || self.pool_status(group, pool).await?.is_none();
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
        let (status, trouble) = self.pool_that_answers(group, pool).await?;
        let activation = status.map_or(waits, |status| {
            let is_below = !is_due(rules, &status);
            Activation { mark: mark(rules).filter(|_| is_below), waits: false }
        });
        Ok((trouble.map(|trouble| format!("thin pool {} {trouble}", rules.name)), activation))
    }

    /// The most that the volume can grow now; nothing while its pool is in trouble.
    pub(in crate::node) async fn room_to_grow(&self, volume: &Volume, class: Option<&Class>) -> Result<Room> {
        if let Some(pool) = volume.pool()
            && let (_, Some(trouble)) = self.pool_that_answers(&volume.group, pool).await?
        {
            return Ok(Room::None(format!("thin pool {} {trouble}", pool.name)));
        }
        let rules = self.pool_rules(&volume.group.name, &volume.logical);
        Ok(placement::room_to_grow(&volume.group, class, rules.as_ref()))
    }

    /// Loads the table of a volume or a pool as lvm has noted it, which also sets its device going.
    pub(in crate::node) async fn refresh(
        &self,
        turn: &Turn,
        group: &VolumeGroup,
        logical: &LogicalVolume,
    ) -> Result<()> {
        let activation = self.activation(group, logical).await?;
        let refreshed = self.writer.refresh(turn, group, &logical.name, activation).await;
        // A command that broke off may have left it suspended.
        Ok(refreshed.inspect_err(|_| self.reaper.look_soon())?)
    }

    /// What the kernel says of a pool, which is activated if it is not active.
    pub(super) async fn active_pool_status(
        &self,
        turn: &Turn,
        group: &VolumeGroup,
        pool: &LogicalVolume,
    ) -> Result<Option<PoolStatus>> {
        if let Some(status) = self.pool_status(group, pool).await? {
            return Ok(Some(status));
        }
        self.activated_pool_status(turn, group, pool).await
    }

    /// What the kernel says of a pool that was not active and is activated for it.
    pub(super) async fn activated_pool_status(
        &self,
        turn: &Turn,
        group: &VolumeGroup,
        pool: &LogicalVolume,
    ) -> Result<Option<PoolStatus>> {
        let activation = self.activation(group, pool).await?;
        self.writer.activate(turn, group, &pool.name, activation).await?;
        self.pool_status(group, pool).await
    }

    /// What the kernel says of a pool, and why nothing more is put into it now, whatever is still promised of it.
    pub(in crate::node) async fn pool_now(
        &self,
        group: &VolumeGroup,
        pool: &LogicalVolume,
    ) -> Result<(Option<PoolStatus>, Option<Trouble>)> {
        match self.pool_status(group, pool).await {
            Ok(Some(status)) => Ok((Some(status.clone()), trouble(&status))),
            Ok(None) => Ok((None, self.why_not_activated(&pool.pool_mapper_uuid(group)).map(Trouble::NotActivated))),
            Err(Error::Kernel { source, .. }) if source.kind() == ErrorKind::TimedOut => {
                Ok((None, Some(Trouble::Silent)))
            }
            Err(error) => Err(error),
        }
    }

    /// The same, for who wants something of this pool and no other: one that is busy for a moment is not full.
    async fn pool_that_answers(
        &self,
        group: &VolumeGroup,
        pool: &LogicalVolume,
    ) -> Result<(Option<PoolStatus>, Option<Trouble>)> {
        match self.pool_now(group, pool).await? {
            (_, Some(trouble @ Trouble::Silent)) => {
                Err(Error::Unavailable { problem: format!("thin pool {}/{} {trouble}", group.name, pool.name) })
            }
            now => Ok(now),
        }
    }

    /// What the kernel says of the pool with the device of that UUID; nothing while it is not active.
    pub(super) async fn status_of_pool(&self, uuid: &str) -> Result<Option<PoolStatus>> {
        let status = self.kernel.pool_status(uuid).await;
        status.map_err(|source| Error::kernel("could not ask device-mapper about a thin pool", source))
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
pub(super) fn mark(rules: &PoolRules) -> Option<u8> {
    (rules.grow_at < 100).then_some(rules.grow_at)
}
