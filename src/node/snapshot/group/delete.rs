//! `DeleteVolumeGroupSnapshot`: all snapshots of the group.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Found, VolumeSnapshot, by_group, member};
use crate::error::{Error, Result};
use crate::node::Node;
use crate::node::placement::ensure_writable;

impl Node {
    /// Deletes the group snapshot; one that is known to be gone is fine, one that is out of reach is not. `snapshot_ids` are those
    /// that the caller believes to be in it; none are not compared, and those that are gone already are no difference.
    pub async fn delete_group_snapshot(self: &Arc<Self>, id: &str, snapshot_ids: &[String]) -> Result<()> {
        let Some(id_name) = self.deletable("group snapshot", id)? else { return Ok(()) };
        let (node, claimed) = (Arc::clone(self), snapshot_ids.to_vec());
        self.mutate(&id_name.clone(), "deleting", async move { node.delete_group(&id_name, &claimed).await }).await
    }

    async fn delete_group(&self, id_name: &str, claimed: &[String]) -> Result<()> {
        let view = self.groups.read().await?;
        if let Some(out_of_reach) = self.why_no_group(&view, id_name).await {
            return Err(out_of_reach);
        }
        let found = Found::of(&view, id_name);
        let ids: BTreeSet<String> = found.whole.iter().map(|member| self.volume_id(&member.logical.name)).collect();
        if let Some(more) = ids.iter().find(|id| !claimed.is_empty() && !claimed.contains(id)) {
            return Err(Error::invalid("snapshot_ids", format!("the group snapshot holds {more}, too")));
        }
        for id in claimed.iter().filter(|id| !ids.contains(*id)) {
            let Some(name) = self.logical_name(id) else { continue };
            if let Some(other) = VolumeSnapshot::find(&view, &name)? {
                let of = other
                    .tags
                    .group
                    .map_or_else(|| String::from("no group snapshot"), |of| self.group_snapshot_id(&of));
                return Err(Error::invalid("snapshot_ids", format!("{id} is of {of}")));
            }
        }
        // Nobody copies from one of them meanwhile.
        let take = |member: &VolumeSnapshot| self.locks.take(&member.logical.name, "deleting its group");
        let _members = found.whole.iter().map(take).collect::<Result<Vec<_>>>()?;
        for member in found.all() {
            ensure_writable(&member.group)?;
            self.ensure_closed(member).await?;
        }
        self.remove_snapshots(found.all()).await
    }

    /// Removes thin snapshots, each volume group's with one command.
    pub(super) async fn remove_snapshots<'s>(
        &self,
        snapshots: impl IntoIterator<Item = &'s VolumeSnapshot> + Send,
    ) -> Result<()> {
        for (group, names) in by_group(snapshots).into_values() {
            let turn = self.writer.turn(&group.name).await;
            let names: Vec<String> = names.into_iter().map(String::from).collect();
            let removed = self.remove_volumes(&turn, group, &names).await;
            drop(turn);
            self.reaper.changed(&group.name);
            let (after, flushed) = tokio::join!(self.groups.read(), self.writer.flush(group));
            let after = after?;
            let is_left = |name: &&String| {
                let logical = after.group(&group.name).and_then(|group| group.logical_volume(name));
                logical.is_some_and(|logical| member(&logical.tags).is_some())
            };
            if let Some(left) = names.iter().find(is_left) {
                removed?;
                return Err(Error::Internal { problem: format!("lvremove ended well, but {left} is still there") });
            }
            flushed?;
        }
        Ok(())
    }
}
