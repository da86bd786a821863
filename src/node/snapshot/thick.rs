//! Snapshots of thick volumes: LVM keeps in them what the volume held where it was overwritten since. They hang on their
//! volume, slow its writes, and are lost when they are full.

use std::sync::Arc;

use super::VolumeSnapshot;
use crate::error::{Error, Result};
use crate::host::kernel::SnapshotStatus;
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::names::fits_device_mapper;
use crate::lvm::tags::{KIND_VOLUME, deleting_tag, name_tag};
use crate::lvm::wipe::Wipe;
use crate::node::Node;
use crate::node::placement::{Room, room_to_grow};
use crate::node::pools::cut::Origin;
use crate::node::volume::Volume;

impl Node {
    /// Makes a snapshot of a thick volume under a name that is free; answers with the groups after it.
    pub(in crate::node) async fn keep(&self, volume: &Volume, name: &str, tags: &[String]) -> Result<Arc<View>> {
        volume.ensure_writable()?;
        let (group, origin) = (&volume.group.name, &volume.logical.name);
        if !fits_device_mapper(group, name) {
            return Err(Error::invalid("name", format!("is too long beside the name of volume group {group}")));
        }
        let turn = self.writer.turn(group).await;
        let view = self.groups.read().await?;
        let Some(volume) = Volume::find(&view, origin)?.filter(|now| now.logical.uuid == volume.logical.uuid) else {
            return Err(Error::no_volume(&self.volume_id(origin)));
        };
        if volume.group.logical_volume(name).is_some() {
            return Err(Error::AlreadyExists {
                what: format!("logical volume {group}/{name}"),
                difference: String::from("it is not of this driver, so it is not touched; rename or remove it"),
            });
        }
        let class = self.class(&volume.tags.class);
        let reserve = class.as_ref().map_or_else(Default::default, |class| class.snapshot_reserve);
        let extents = reserve.extents(volume.logical.extents, volume.group.extent_bytes).max(1);
        let reason = match room_to_grow(&volume.group, class.as_ref(), None) {
            Room::Extents(most) if extents <= most => None,
            Room::Extents(most) => Some(format!(
                "a snapshot of {} needs {} bytes (snapshotReserve), and volume group {group} lets it have {}",
                volume.full_name(),
                extents * volume.group.extent_bytes,
                most * volume.group.extent_bytes
            )),
            Room::None(reason) => Some(format!("volume group {group}: {reason}")),
        };
        if let Some(reason) = reason {
            return Err(Error::NoRoom { reason });
        }
        let made = self.writer.snapshot_thick(&turn, &volume.group, origin, name, extents, tags).await;
        drop(turn);
        self.reaper.changed(group);
        self.running_device(&volume).await?;
        let (after, flushed) = tokio::join!(self.groups.read(), self.writer.flush(&volume.group));
        let after = after?;
        if after.group(group).is_none_or(|group| group.logical_volume(name).is_none()) {
            made?;
            return Err(Error::Internal { problem: format!("lvcreate ended well, but {group}/{name} is not there") });
        }
        flushed?;
        Ok(after)
    }

    /// Makes of the snapshot a volume that is being deleted: what it holds is its volume's, and is wiped like it.
    pub(in crate::node) async fn discard_thick(
        &self,
        group: &VolumeGroup,
        name: &str,
        class: &str,
        kind: &str,
    ) -> Result<()> {
        let wipe = self.class(class).map_or(Wipe::Zero, |class| class.wipe);
        let add = [String::from(KIND_VOLUME), name_tag(name), deleting_tag(wipe)];
        let remove = [kind.to_owned()];
        let turn = self.writer.turn(&group.name).await;
        let marked = self.writer.change_tags(&turn, group, name, &add, &remove).await;
        drop(turn);
        self.reaper.changed(&group.name);
        let (after, flushed) = tokio::join!(self.groups.read(), self.writer.flush(group));
        let is_marked = |group: &Arc<VolumeGroup>| {
            let logical = group.logical_volume(name);
            logical.is_none_or(|logical| !logical.tags.iter().any(|tag| tag == kind))
        };
        if !after?.group(&group.name).is_some_and(is_marked) {
            marked?;
            return Err(Error::Internal { problem: format!("{}/{name} took no tag", group.name) });
        }
        flushed?;
        self.reaper.wake();
        Ok(())
    }

    /// Whether the snapshot holds what its volume held. One that is not active was whole when it was last.
    pub(in crate::node) async fn is_whole(&self, snapshot: &VolumeSnapshot) -> Result<bool> {
        self.is_kept(&snapshot.group, &snapshot.logical).await
    }

    /// That what is read is whole.
    pub(in crate::node) async fn ensure_kept(&self, origin: &Origin) -> Result<()> {
        let (group, logical) = (&origin.group, &origin.logical);
        if self.is_kept(group, logical).await? {
            return Ok(());
        }
        Err(Error::precondition(format!(
            "snapshot {}/{} is lost: more of its volume was overwritten than its reserve holds; make a new one, with a \
             larger snapshotReserve",
            group.name, logical.name
        )))
    }

    async fn is_kept(&self, group: &VolumeGroup, logical: &LogicalVolume) -> Result<bool> {
        if logical.thin.is_some() {
            return Ok(true);
        }
        let status = self.kernel.snapshot_status(&logical.mapper_uuid(group)).await;
        let status = status.map_err(|source| Error::kernel("could not ask device-mapper about a snapshot", source))?;
        Ok(match status {
            None => true,
            Some(SnapshotStatus::Lost) => false,
            Some(SnapshotStatus::Kept { used_sectors, total_sectors }) => used_sectors < total_sectors,
        })
    }
}
