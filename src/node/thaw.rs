//! Sets going what a group snapshot or an lvm command held back that died: at the start, when the last process was killed, and
//! with each look of the reaper. Whoever uses such a volume waits for ever. Nobody could do it earlier: in a container all processes die
//! together.

use std::sync::Arc;

use crate::error::Result;
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::tags::copy_source::CopySourceTags;
use crate::lvm::tags::snapshot::SnapshotTags;
use crate::lvm::tags::{VolumeTags, is_gone};
use crate::node::Node;

impl Node {
    /// Sets going every device of this driver's volumes that is suspended. An lvm command that still runs, on the host perhaps,
    /// has lvm's lock as long as it holds a device back, and is waited for.
    pub(in crate::node) async fn thaw(&self, view: &View) -> Result<()> {
        let mut failed = self.mend_pools(view).await.err();
        if ours(view).next().is_none() {
            return failed.map_or(Ok(()), Err);
        }
        let suspended = self.suspended().await?;
        for (group, logical) in ours(view).filter(|(group, logical)| is_among(&suspended, group, logical)) {
            // One that cannot be helped must not keep the others waiting.
            if let Err(error) = self.set_going(group, logical).await {
                tracing::warn!(%error, group = group.name, volume = logical.name, "could not set going what was held back");
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn set_going(&self, group: &VolumeGroup, logical: &LogicalVolume) -> Result<()> {
        let turn = self.writer.turn(&group.name).await;
        // While nobody has the turn nobody here holds it back.
        if !is_among(&self.suspended().await?, group, logical) {
            return Ok(());
        }
        self.refresh(&turn, group, logical).await?;
        tracing::warn!(group = group.name, volume = logical.name, "was held back by a process that died; goes on");
        Ok(())
    }

    /// UUIDs of the devices of LVM's that are suspended.
    async fn suspended(&self) -> Result<Vec<String>> {
        let devices = self.mapped_devices().await?.into_iter();
        let suspended = devices.filter(|device| device.suspended && device.uuid.starts_with("LVM-"));
        Ok(suspended.map(|device| device.uuid).collect())
    }
}

/// The logical volumes of this driver; pools first, which all in them need.
fn ours(view: &View) -> impl Iterator<Item = (&Arc<VolumeGroup>, &Arc<LogicalVolume>)> {
    view.groups.iter().flat_map(|group| {
        let pools = group.logical_volumes.iter().filter(|logical| logical.pool.is_some() && holds_ours(group, logical));
        let volumes = group.logical_volumes.iter().filter(|logical| is_ours(logical));
        pools.chain(volumes).map(move |logical| (group, logical))
    })
}

fn holds_ours(group: &VolumeGroup, pool: &LogicalVolume) -> bool {
    group.in_pool(&pool.name).any(|(logical, _)| is_ours(logical))
}

/// Whether a device of the logical volume, or of one of its layers, is among them.
fn is_among(devices: &[String], group: &VolumeGroup, logical: &LogicalVolume) -> bool {
    let layers = logical.mapper_uuid(group);
    devices.iter().any(|uuid| uuid.starts_with(&layers))
}

/// Whether it is this driver's: a volume, a snapshot, what is made to make one, or what is left of one.
pub(super) fn is_ours(logical: &LogicalVolume) -> bool {
    VolumeTags::parse(&logical.tags).is_some()
        || SnapshotTags::parse(&logical.tags).is_some()
        || SnapshotTags::parse_incomplete(&logical.tags).is_some()
        || CopySourceTags::parse(&logical.tags).is_some()
        || is_gone(&logical.tags)
}
