//! What is done for each volume group with every look of the reaper: what commands that broke off have left is mended, devices that
//! they hold back go on, and what nobody will ask for again is removed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::lvm::groups::View;
use crate::lvm::model::VolumeGroup;
use crate::node::Node;

/// The UUIDs of the groups for which that is being done.
#[derive(Debug, Default)]
pub(super) struct Mending(Mutex<HashSet<String>>);

impl Mending {
    fn begin(&self, group: &VolumeGroup) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(group.uuid.clone())
    }

    fn end(&self, group: &VolumeGroup) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&group.uuid);
    }
}

impl Node {
    /// Does it for each group, in a task of its own: a command that hangs must not keep the others waiting.
    pub(super) fn mend(self: &Arc<Self>, view: &View) {
        for group in view.groups.iter().filter(|group| self.mending.begin(group)) {
            let (node, group) = (Arc::clone(self), Arc::clone(group));
            self.detached.spawn(async move {
                // What is found in it is looked for again, in all groups, before anything is done.
                let seen = View { groups: vec![Arc::clone(&group)], ..View::default() };
                if let Err(error) = node.thaw(&seen).await {
                    tracing::warn!(%error, group = group.name, "could not mend what commands that broke off left; trying again");
                    node.reaper.look_soon();
                }
                node.drop_broken_off(&seen).await;
                node.settle_incomplete_groups(&seen).await;
                node.drop_stale_copy_sources(&seen).await;
                node.mending.end(&group);
            });
        }
    }
}
