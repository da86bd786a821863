//! `/etc/lvm/backup`, written once a burst of changes is over: for the admin's `vgcfgrestore`, and to know a group whose
//! disks are gone after a restart.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::model::VolumeGroup;
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
        let turn = self.writer.turn(group).await;
        let view = self.groups.read().await?;
        let Some(group) = view.group(group) else {
            return Err(Error::Unavailable { problem: format!("volume group {group} cannot be read") });
        };
        Ok(self.writer.back_up(&turn, group).await?)
    }
}
