//! What an lvm command leaves behind that dies after a pool has done what it was told and before lvm has noted that it did.
//!
//! - Before the pool has counted it: lvm tells the pool to make the volume with every command from then on, is refused since it is
//!   there, and changes nothing in the pool any more. The volume is nobody's yet, so it is taken out of the pool, and the next
//!   command makes it.
//! - After the pool has counted it: lvm takes what it noted for done, and with it what its next command adds. The volume of an
//!   `lvremove` would stay in the pool for good, so it is taken out before.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::host::kernel::{PoolMode, PoolStatus};
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, ThinVolume, VolumeGroup};
use crate::lvm::tags::{GONE, VolumeTags, is_gone, made_by};
use crate::lvm::writer::Turn;
use crate::node::Node;
use crate::node::thaw::is_ours;

impl Node {
    /// Makes pools usable again in which the making of a volume of this driver broke off half-way.
    pub(in crate::node) async fn mend_pools(&self, view: &View) -> Result<()> {
        for group in view.groups.iter().filter(|group| half_way(group, &self.identity.driver).next().is_some()) {
            let turn = self.writer.turn(&group.name).await;
            self.mended(&turn, self.groups.read().await?, &group.name).await?;
        }
        Ok(())
    }

    /// The groups, after such pools were made usable in the group that lvm is about to change. Else what it tells a pool fails. The
    /// groups were read under the turn, so that nothing of this driver's is just being made.
    pub(in crate::node) async fn mended(&self, turn: &Turn, view: Arc<View>, name: &str) -> Result<Arc<View>> {
        let driver = &self.identity.driver;
        let Some(group) = view.group(name).filter(|group| half_way(group, driver).next().is_some()) else {
            return Ok(view);
        };
        self.wait_for_lvm(turn, group).await;
        let now = self.groups.read().await?;
        if let Some(group) = now.group(name) {
            for pool in half_way(group, driver) {
                if let Err(error) = self.take_out_unsent(turn, group, pool).await {
                    // It keeps nothing else of the group from being changed.
                    tracing::warn!(%error, group = group.name, pool = pool.name, "could not mend the pool; trying again");
                    self.reaper.look_soon();
                }
            }
        }
        Ok(now)
    }

    /// Waits for lvm's lock, so that a command that still runs, on the host perhaps, has ended: what is read then is not half made.
    pub(in crate::node) async fn wait_for_lvm(&self, turn: &Turn, group: &VolumeGroup) {
        if let Err(error) = self.writer.wait_for_others(turn, group).await {
            // The lock was waited for all the same.
            tracing::debug!(%error, group = group.name, "could not look at the group");
        }
    }

    /// The pools of these volumes from which nothing can be removed now, and why, in words. Of a pool that takes no messages lvm would
    /// remove a volume all the same and count one change more than the pool, and `lvconvert --repair` refuses a pool of which the
    /// counts differ. One that an administrator deactivated may be about to be repaired.
    pub(in crate::node) async fn why_kept(
        &self,
        group: &VolumeGroup,
        names: &[String],
    ) -> Result<BTreeMap<String, String>> {
        let volumes = names.iter().filter_map(|name| group.logical_volume(name));
        let pools: BTreeMap<_, _> =
            volumes.filter_map(|volume| group.pool_of(volume)).map(|pool| (&pool.name, pool)).collect();
        let mut kept = BTreeMap::new();
        for (name, pool) in pools {
            if let Some(why) = self.why_nothing_leaves(group, pool).await? {
                let problem =
                    format!("what is deleted in thin pool {}/{name} stays for now: the pool {why}", group.name);
                kept.insert(name.clone(), problem);
            }
        }
        Ok(kept)
    }

    async fn why_nothing_leaves(&self, group: &VolumeGroup, pool: &LogicalVolume) -> Result<Option<String>> {
        let takes_none = |status: &PoolStatus| matches!(status.mode, PoolMode::Failed | PoolMode::ReadOnly);
        Ok(match self.pool_now(group, pool).await? {
            (Some(status), Some(trouble)) if takes_none(&status) => Some(trouble.to_string()),
            (None, Some(trouble)) => Some(trouble.to_string()),
            (None, None) if self.was_activated(&pool.pool_mapper_uuid(group)) => {
                Some(String::from("was deactivated; activate it"))
            }
            _ => None,
        })
    }

    /// Takes volumes that lvm is about to remove out of a pool that lvm would not tell of it. Their numbers are still theirs, so
    /// nobody else's volume can be meant.
    pub(in crate::node) async fn take_out_untold(
        &self,
        turn: &Turn,
        group: &VolumeGroup,
        names: &[String],
    ) -> Result<()> {
        for volume in names.iter().filter_map(|name| group.logical_volume(name)) {
            let Some((thin, logical)) = volume.thin.as_ref().zip(group.pool_of(volume)) else { continue };
            let Some(pool) = logical.pool.as_ref().filter(|pool| pool.is_pending) else { continue };
            let status = self.active_pool_status(turn, group, logical).await?;
            if status.is_none_or(|status| status.transaction_id != pool.transaction_id) {
                continue;
            }
            self.writer.deactivate(turn, group, &volume.name).await?;
            let is_marked =
                is_gone(&volume.tags) || VolumeTags::parse(&volume.tags).is_some_and(|tags| tags.deleting.is_some());
            if !is_marked {
                // lvm takes it for made from its next command on, which may come before it can be removed.
                self.writer.change_tags(turn, group, &volume.name, &[String::from(GONE)], &[]).await?;
                self.writer.flush(group).await?;
            }
            match self.take_out(group, logical, thin).await {
                Err(error) if error.raw_os_error() != Some(Errno::ENODATA as i32) => {
                    return Err(Error::kernel("could not take a volume out of its thin pool", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells a pool to forget a volume, by its number; `ENODATA` where it has none of that number.
    async fn take_out(&self, group: &VolumeGroup, pool: &LogicalVolume, thin: &ThinVolume) -> io::Result<()> {
        self.kernel.message(&pool.pool_mapper_uuid(group), &format!("delete {}", thin.device_id)).await
    }

    async fn take_out_unsent(&self, turn: &Turn, group: &VolumeGroup, logical: &LogicalVolume) -> Result<()> {
        let Some(pool) = &logical.pool else { return Ok(()) };
        let status = match self.pool_status(group, logical).await? {
            // An administrator deactivated it.
            None if self.was_activated(&logical.pool_mapper_uuid(group)) => return Ok(()),
            // After a power cut it may not be active yet; activating it tells it nothing.
            None => self.activated_pool_status(turn, group, logical).await?,
            active => active,
        };
        let Some(status) = status else { return Ok(()) };
        if status.transaction_id.checked_add(1) != Some(pool.transaction_id) {
            return Ok(());
        }
        let driver = &self.identity.driver;
        for (volume, thin) in unsent(group, logical).filter(|(volume, _)| is_own(volume, driver)) {
            match self.take_out(group, logical, thin).await {
                Ok(()) => {
                    tracing::warn!(group = group.name, pool = logical.name, volume = volume.name, "mended the pool");
                }
                // lvm died before it had told the pool.
                Err(error) => tracing::debug!(%error, volume = volume.name, "is not in the pool"),
            }
        }
        Ok(())
    }
}

/// Pools of a group in which nothing is being made but volumes of the driver of that name, and one is, or is not any more. What
/// another one is just making must not be taken from it: it has a turn of its own.
fn half_way<'g>(group: &'g VolumeGroup, driver: &str) -> impl Iterator<Item = &'g Arc<LogicalVolume>> {
    group.logical_volumes.iter().filter(move |pool| {
        pool.pool.is_some()
            && unsent(group, pool).next().is_some()
            && unsent(group, pool).all(|(volume, _)| is_own(volume, driver))
    })
}

/// What lvm has noted to make in the pool, and not that it was made.
fn unsent<'g>(
    group: &'g VolumeGroup,
    pool: &'g LogicalVolume,
) -> impl Iterator<Item = (&'g Arc<LogicalVolume>, &'g ThinVolume)> {
    group.in_pool(&pool.name).filter(|(_, thin)| thin.is_unsent)
}

/// Whether the driver of that name is making it.
fn is_own(logical: &LogicalVolume, driver: &str) -> bool {
    is_ours(logical) && made_by(&logical.tags, driver)
}
