//! What lvm commands leave that broke off: ended by a signal, or with the power. Most make what they make in several commits.
//!
//! - of a thick snapshot: its store, which does not hang on its volume yet
//! - of a thin volume or snapshot: a logical volume that its pool does not know
//! - of a thin volume that could not be removed: a logical volume that its pool has forgotten
//! - of a pool: a volume with its name and tags that is none
//!
//! What they leave suspended [`thaw`](super::thaw) sets going.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::pool::is_unmade_pool;
use crate::lvm::tags::{VolumeTags, is_gone, made_by};
use crate::lvm::writer::Turn;
use crate::node::Node;
use crate::node::thaw::is_ours;

impl Node {
    /// Removes what a try that broke off left under the name of what is to be made with these tags. Anything else under it is in
    /// the way. Nobody else has the turn, so it is not just being made.
    pub(super) async fn make_way(
        &self,
        turn: &Turn,
        group: &Arc<VolumeGroup>,
        there: &Arc<LogicalVolume>,
        tags: &[String],
    ) -> Result<()> {
        if is_broken_off(there) {
            return self.remove_broken_off(turn, group, there).await;
        }
        if tags.iter().all(|tag| there.tags.contains(tag)) {
            // lvm's next command on the pool has ended what broke off, after it was looked for.
            let operation = String::from("an earlier call has just made it");
            return Err(Error::Busy { volume: there.name.clone(), operation });
        }
        Err(self.in_the_way(group, there))
    }

    /// Removes what a try that broke off left, if it is that still when no lvm command runs any more, and this driver's.
    pub(super) async fn remove_broken_off(
        &self,
        turn: &Turn,
        group: &Arc<VolumeGroup>,
        there: &LogicalVolume,
    ) -> Result<()> {
        self.wait_for_lvm(turn, group).await;
        let view = self.groups.read().await?;
        let found = self.broken_off(&view).find(|(_, now)| now.uuid == there.uuid);
        let Some((group, _)) = found else {
            let now = view.group(&group.name).ok_or_else(|| unreadable(group))?;
            if now.logical_volumes.iter().all(|now| now.uuid != there.uuid) {
                // The reaper has removed it meanwhile.
                return Ok(());
            }
            let operation = String::from("another command was just making it");
            return Err(Error::Busy { volume: there.name.clone(), operation });
        };
        self.remove_volumes(turn, &group, std::slice::from_ref(&there.name)).await
    }

    /// Removes what a try that broke off left under that name, in whatever group: it takes room there, and the next lvm command may
    /// end its making when nobody asks for it any more. Answers with the groups after that.
    pub(super) async fn without_broken_off(&self, view: Arc<View>, name: &str) -> Result<Arc<View>> {
        let named = view.logical_volumes(name).filter(|(_, logical)| self.has_broken_off(logical));
        let left: Vec<_> = named.map(|(group, logical)| (Arc::clone(group), Arc::clone(logical))).collect();
        if left.is_empty() {
            return Ok(view);
        }
        for (group, logical) in left {
            let turn = self.writer.turn(&group.name).await;
            let removed = self.remove_broken_off(&turn, &group, &logical).await;
            drop(turn);
            self.reaper.changed(&group.name);
            removed?;
            self.writer.flush(&group).await?;
        }
        self.groups.read().await
    }

    /// Removes volumes under the turn of their group.
    pub(super) async fn remove_volumes(&self, turn: &Turn, group: &VolumeGroup, names: &[String]) -> Result<()> {
        // What was read before the turn may be of the middle of another command.
        let view = self.mended(turn, self.groups.read().await?, &group.name).await?;
        let group = view.group(&group.name).ok_or_else(|| unreadable(group))?;
        if let Some(problem) = self.why_kept(group, names).await?.into_values().next() {
            return Err(Error::Unavailable { problem });
        }
        self.take_out_untold(turn, group, names).await?;
        let activation = self.activation_of_any(group, names).await?;
        Ok(self.writer.remove(turn, group, names, activation).await?)
    }

    /// Removes all that this driver's tries which broke off left; nobody asks for them by name any more, perhaps.
    pub(super) async fn drop_broken_off(&self, view: &View) {
        for (group, logical) in self.broken_off(view) {
            let turn = self.writer.turn(&group.name).await;
            // While nobody has the group's turn none is just being made.
            let Ok(now) = self.groups.read().await else { return };
            let found = self.broken_off(&now).find(|(_, now)| now.uuid == logical.uuid);
            let Some((group, logical)) = found else { continue };
            if let Err(error) = self.remove_broken_off(&turn, &group, &logical).await {
                tracing::warn!(%error, volume = logical.name, "could not remove what is left of a command that broke off");
            }
            self.reaper.changed(&group.name);
        }
    }

    fn broken_off<'v>(&'v self, view: &'v View) -> impl Iterator<Item = (Arc<VolumeGroup>, Arc<LogicalVolume>)> + 'v {
        view.groups.iter().flat_map(move |group| {
            let left = group.logical_volumes.iter().filter(|logical| self.has_broken_off(logical));
            left.map(|logical| (Arc::clone(group), Arc::clone(logical)))
        })
    }

    fn has_broken_off(&self, logical: &LogicalVolume) -> bool {
        is_broken_off(logical) && made_by(&logical.tags, &self.identity.driver)
    }
}

fn unreadable(group: &VolumeGroup) -> Error {
    Error::Unavailable { problem: format!("volume group {} cannot be read", group.name) }
}

fn is_broken_off(logical: &LogicalVolume) -> bool {
    let is_volume = VolumeTags::parse(&logical.tags).is_some();
    let is_no_snapshot = is_ours(logical) && !is_volume && !logical.is_snapshot();
    is_gone(&logical.tags) || is_unmade_pool(logical) || is_no_snapshot || is_volume && logical.is_unsent()
}
