//! `/etc/lvm/backup`, written once a burst of changes is over: for the admin's `vgcfgrestore`, and to know a group whose
//! disks are gone after a restart.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::node::Node;
use crate::node::volume::Volume;

impl Node {
    /// A run that ended within the rest of a burst left backups undone: a group that this one sees for the first time
    /// is compared with its backup.
    pub(super) async fn note_old_backups(&self, view: &View) {
        let is_ours = |group: &&Arc<VolumeGroup>| Volume::in_group(group).next().is_some();
        let is_new = |group: &&Arc<VolumeGroup>| !self.reaper.state().compared.contains(&group.uuid);
        let new: Vec<_> = view.groups.iter().filter(is_new).filter(is_ours).collect();
        if new.is_empty() {
            return;
        }
        let backups = self.backups.groups(&[]).await;
        let mut state = self.reaper.state();
        for group in new {
            let backup = backups.iter().find(|backup| backup.uuid == group.uuid);
            if backup.is_none_or(|backup| backup.seqno < group.seqno) {
                state.changed.insert(group.name.clone());
            }
            state.compared.insert(group.uuid.clone());
        }
    }

    /// Writes the backups that are out of date; one that cannot be written is tried again later.
    pub(super) fn back_up_changed(self: &Arc<Self>) {
        let changed = std::mem::take(&mut self.reaper.state().changed);
        for group in changed {
            if !self.reaper.take(&group) {
                self.reaper.state().changed.insert(group);
                continue;
            }
            let node = Arc::clone(self);
            self.detached.spawn(async move {
                let written = node.back_up(&group).await;
                node.reaper.state().busy.remove(&group);
                let failed_before = std::mem::replace(&mut node.reaper.state().backups_fail, written.is_err());
                if let Err(error) = written {
                    // A folder that cannot be written may stay so; once is enough in the log.
                    if !failed_before {
                        tracing::warn!(%error, group, "could not write the backup of the metadata; trying again");
                    }
                    node.reaper.state().changed.insert(group);
                }
                node.reaper.wake();
            });
        }
    }

    async fn back_up(&self, group: &str) -> Result<()> {
        let backups = self.backups.groups(&[]).await;
        let turn = self.writer.turn(group).await;
        let view = self.groups.read().await?;
        let Some(group) = view.group(group) else {
            return Err(Error::Unavailable { problem: format!("volume group {group} cannot be read") });
        };
        if backups.iter().any(|backup| knows_more(backup, group)) {
            let problem = "the old one knows of later changes to a thin pool, and may be all that knows of them";
            tracing::warn!(group = group.name, "no backup of the metadata is written: {problem}");
            return Ok(());
        }
        Ok(self.writer.back_up(&turn, group).await?)
    }
}

/// Whether older metadata of the group was restored, so that lvm refuses a pool until the newest is. Then the backup may be the only
/// place where that is left.
fn knows_more(backup: &VolumeGroup, group: &VolumeGroup) -> bool {
    let changes = |group: &VolumeGroup, uuid: &str| {
        let pool = group.logical_volumes.iter().find(|logical| logical.uuid == uuid)?;
        pool.pool.as_ref().map(|pool| pool.transaction_id)
    };
    let is_behind = |pool: &Arc<LogicalVolume>| changes(backup, &pool.uuid) > changes(group, &pool.uuid);
    backup.uuid == group.uuid && group.logical_volumes.iter().filter(|logical| logical.pool.is_some()).any(is_behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lvm::model::{Pool, sample};

    #[test]
    fn a_backup_that_knows_of_later_changes_of_a_pool_is_kept() {
        let group = |transaction_id| {
            let pool = sample::pool("pool", 10);
            let pool = LogicalVolume { pool: pool.pool.clone().map(|pool| Pool { transaction_id, ..pool }), ..pool };
            VolumeGroup { logical_volumes: vec![Arc::new(pool)], ..sample::group("vg", &[(100, 40)]) }
        };
        assert!(knows_more(&group(3), &group(2)));
        assert!(!knows_more(&group(2), &group(2)) && !knows_more(&group(1), &group(2)));
        assert!(!knows_more(&sample::group("vg", &[(100, 40)]), &group(2)), "the pool is new");
        assert!(!knows_more(&group(3), &sample::group("vg", &[(100, 40)])), "the pool was removed");
        let another = VolumeGroup { uuid: String::from("another"), ..group(3) };
        assert!(!knows_more(&another, &group(2)));
    }
}
