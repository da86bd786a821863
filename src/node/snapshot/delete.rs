//! `DeleteSnapshot`: a thin one is gone at once, for its pool zeroes what it hands out; what a thick one holds is wiped.

use std::sync::Arc;

use super::VolumeSnapshot;
use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::tags::KIND_SNAPSHOT;
use crate::node::Node;
use crate::node::placement::ensure_writable;
use crate::node::volume::Volume;

impl Node {
    /// Deletes the snapshot; one that is known to be gone is fine, one that is out of reach is not.
    pub async fn delete_snapshot(self: &Arc<Self>, snapshot_id: &str) -> Result<()> {
        let Some(name) = self.deletable("snapshot", snapshot_id)? else { return Ok(()) };
        let node = Arc::clone(self);
        self.mutate(&name.clone(), "deleting", async move { node.delete_snapshot_locked(&name).await }).await
    }

    /// That nothing has its device open.
    pub(super) async fn ensure_closed(&self, snapshot: &VolumeSnapshot) -> Result<()> {
        let (group, name) = (&snapshot.group, &snapshot.logical.name);
        if self.device_stays_open(&snapshot.logical.mapper_uuid(group)).await? {
            return Err(Error::precondition(format!(
                "snapshot {}/{name} is in use: something has its device open; close it",
                group.name
            )));
        }
        Ok(())
    }

    async fn delete_snapshot_locked(&self, name: &str) -> Result<()> {
        let view = self.without_broken_off(self.groups.read().await?, name).await?;
        let Some(snapshot) = VolumeSnapshot::find(&view, name)? else {
            self.flush_deleted(&view, name).await?;
            return self.why_no_snapshot(&view, name).await.map_or(Ok(()), Err);
        };
        if let Some(of) = &snapshot.tags.group {
            let id = self.group_snapshot_id(of);
            let problem =
                format!("is of group snapshot {id:?} and goes with it; delete that (DeleteVolumeGroupSnapshot)");
            return Err(Error::invalid("snapshot_id", problem));
        }
        let group = &snapshot.group;
        ensure_writable(group)?;
        self.ensure_closed(&snapshot).await?;
        if snapshot.is_thick() {
            return self.discard_thick(group, name, &snapshot.tags.class, KIND_SNAPSHOT).await;
        }
        let turn = self.writer.turn(&group.name).await;
        let removed = self.remove_volumes(&turn, group, &[name.to_owned()]).await;
        drop(turn);
        self.reaper.changed(&group.name);
        let (after, flushed) = tokio::join!(self.groups.read(), self.writer.flush(group));
        if VolumeSnapshot::find(&*after?, name)?.is_some() {
            removed?;
            return Err(Error::Internal { problem: format!("lvremove ended well, but {name} is still there") });
        }
        flushed
    }

    /// Makes the mark of an earlier try survive a power cut, which made the snapshot a volume that is being deleted.
    async fn flush_deleted(&self, view: &View, name: &str) -> Result<()> {
        match Volume::find(view, name)?.filter(|volume| volume.tags.deleting.is_some()) {
            Some(volume) => self.writer.flush(&volume.group).await,
            None => Ok(()),
        }
    }
}
