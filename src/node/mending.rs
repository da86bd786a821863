//! What is done for each volume group with every look of the reaper: what commands that broke off have left is mended, devices that
//! they hold back go on, and what nobody will ask for again is removed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::lvm::groups::View;
use crate::lvm::model::VolumeGroup;
use crate::node::Node;

/// The groups for which that is being done, by their UUIDs, and whether it is to be done once more then.
#[derive(Debug, Default)]
pub(super) struct Mending(Mutex<HashMap<String, bool>>);

impl Mending {
    /// False while it is being done: then it is done once more.
    fn begin(&self, group: &VolumeGroup) -> bool {
        match self.groups().entry(group.uuid.clone()) {
            Entry::Occupied(mut again) => {
                again.insert(true);
                false
            }
            Entry::Vacant(new) => {
                new.insert(false);
                true
            }
        }
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody else does it for the group until this is dropped, however the task ends.
struct Begun {
    node: Arc<Node>,
    group: Arc<VolumeGroup>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.node.mending.groups().remove(&self.group.uuid) == Some(true) {
            self.node.reaper.wake();
        }
    }
}

impl Node {
    /// Does it for each group, in a task of its own: a command that hangs must not keep the others waiting.
    pub(super) fn mend(self: &Arc<Self>, view: &View) {
        for group in view.groups.iter().filter(|group| self.mending.begin(group)) {
            let begun = Begun { node: Arc::clone(self), group: Arc::clone(group) };
            self.detached.spawn(async move {
                let Begun { node, group } = &begun;
                // What is found in it is looked for again, in all groups, before anything is done.
                let seen = View { groups: vec![Arc::clone(group)], ..View::default() };
                if let Err(error) = node.thaw(&seen).await {
                    tracing::warn!(%error, group = group.name, "could not mend what commands that broke off left; trying again");
                    node.reaper.look_soon();
                }
                node.drop_broken_off(&seen).await;
                node.settle_incomplete_groups(&seen).await;
                node.drop_stale_copy_sources(&seen).await;
            });
        }
    }
}
