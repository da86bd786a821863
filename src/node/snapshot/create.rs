//! `CreateSnapshot`: a thin snapshot, made in one commit while the volume's writes are held back for a moment.

use std::sync::Arc;

use super::VolumeSnapshot;
use crate::error::{Error, Result};
use crate::lvm::names::snapshot_name;
use crate::lvm::tags::snapshot::SnapshotTags;
use crate::node::Node;
use crate::node::pools::cut::Origin;
use crate::node::volume::Volume;

impl Node {
    /// Makes a snapshot of that name of a volume, or answers with the one that there is.
    pub async fn create_snapshot(self: &Arc<Self>, name: String, source_volume_id: &str) -> Result<VolumeSnapshot> {
        let source = self.known_name(source_volume_id)?;
        let logical_name = snapshot_name(&name);
        let node = Arc::clone(self);
        self.mutate(&logical_name.clone(), "creating", async move {
            let made = node.create_snapshot_locked(&logical_name, &name, &source).await;
            made.map_err(Error::of_snapshot)
        })
        .await
    }

    async fn create_snapshot_locked(&self, logical_name: &str, name: &str, source: &str) -> Result<VolumeSnapshot> {
        let view = self.without_broken_off(self.groups.read().await?, logical_name).await?;
        if let Some(snapshot) = VolumeSnapshot::find(&view, logical_name)? {
            return self.existing_snapshot(snapshot, name, source).await;
        }
        if let Some(out_of_reach) = self.why_no_snapshot(&view, logical_name).await {
            return Err(out_of_reach);
        }
        // While it is being formatted, grown or deleted there is no moment to hold on to.
        let _source = self.locks.take(source, "making a snapshot")?;
        let volume = self.volume(source).await?;
        let tags = SnapshotTags::of_volume(name, source, &volume.tags, &self.identity.driver);
        let view = if volume.logical.thin.is_none() {
            let tags = SnapshotTags { bytes: Some(volume.bytes()), ..tags };
            self.keep(&volume, logical_name, &tags.to_tags()).await?
        } else {
            let origin = Origin { group: volume.group, logical: volume.logical };
            self.cut(&origin, origin.logical.extents, logical_name, &tags.to_tags()).await?
        };
        let made = VolumeSnapshot::find(&view, logical_name)?;
        made.ok_or_else(|| Error::Internal { problem: format!("lvcreate ended well, but {logical_name} is not there") })
    }

    async fn existing_snapshot(&self, snapshot: VolumeSnapshot, name: &str, source: &str) -> Result<VolumeSnapshot> {
        let tags = &snapshot.tags;
        let difference = if tags.name != name {
            Some(format!("its name {:?} was shortened to the same logical volume", tags.name))
        } else if tags.source != source {
            Some(format!("it is of volume {:?}", self.volume_id(&tags.source)))
        } else {
            None
        };
        if let Some(difference) = difference {
            return Err(Error::AlreadyExists { what: format!("snapshot {name:?}"), difference });
        }
        // A crash may have come between the commit and the flush of the first try, or while the volume was suspended.
        let view = self.groups.read().await?;
        if let Some(volume) = Volume::find(&view, source)? {
            self.running_device(&volume).await?;
        }
        self.writer.flush(&snapshot.group).await?;
        Ok(snapshot)
    }
}
