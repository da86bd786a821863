//! Snapshots of thick volumes: LVM keeps in them what the volume held where it was overwritten since. They hang on their
//! volume, slow its writes, and are lost when they are full.

use std::sync::Arc;

use super::VolumeSnapshot;
use crate::error::{Error, Result};
use crate::host::kernel::SnapshotStatus;
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::names::fits_device_mapper;
use crate::lvm::tags::snapshot::{LOST, SnapshotTags};
use crate::lvm::tags::{KIND_VOLUME, deleting_tag, name_tag};
use crate::lvm::wipe::Wipe;
use crate::lvm::writer::NewSnapshot;
use crate::node::copy::ensure_log_is_whole;
use crate::node::placement::{Room, room_to_grow, why_closed_to_new};
use crate::node::pools::cut::Origin;
use crate::node::volume::Volume;
use crate::node::{Node, why_hidden};

impl Node {
    /// Makes a snapshot of a thick volume under a name that is free; answers with the groups after it.
    pub(in crate::node) async fn keep(&self, volume: &Volume, name: &str, tags: &[String]) -> Result<Arc<View>> {
        let (group, origin) = (&volume.group.name, &volume.logical.name);
        if !fits_device_mapper(group, name) {
            return Err(Error::invalid("name", format!("is too long beside the name of volume group {group}")));
        }
        self.write_out(&volume.group, &volume.logical).await?;
        let turn = self.writer.turn(group).await;
        let mut view = self.groups.read().await?;
        if let Some((there, left)) = view.logical_volume_in(group, name) {
            self.make_way(&turn, there, left, tags).await?;
            view = self.groups.read().await?;
        }
        let Some(volume) = Volume::find(&view, origin)?.filter(|now| now.logical.uuid == volume.logical.uuid) else {
            return Err(self.missing(&view, origin).await);
        };
        volume.ensure_writable()?;
        ensure_log_is_whole(&volume.group, &volume.logical)?;
        let class = self.class(&volume.tags.class);
        let reserve = class.as_ref().map_or_else(Default::default, |class| class.snapshot_reserve);
        let extents = reserve.extents(volume.logical.extents, volume.group.extent_bytes).max(1);
        let room = match why_closed_to_new(&volume.group) {
            Some(reason) => Room::None(reason),
            None => room_to_grow(&volume.group, class.as_ref(), None),
        };
        let reason = match room {
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
        let new = NewSnapshot { origin, name, tags };
        let command = |given_up| self.writer.snapshot_thick(&turn, &volume.group, new, extents, given_up);
        let made = self.held_briefly(&volume.group, &volume.logical, command).await;
        self.reaper.changed(group);
        self.keep_running(&turn, &volume.group, &volume.logical).await?;
        let (after, flushed) = tokio::join!(self.groups.read(), self.writer.flush(&volume.group));
        let after = after?;
        let kept = after.logical_volume_in(group, name);
        if kept.is_none_or(|(_, logical)| !logical.snapshot_of.contains(origin)) {
            if let Some((group, logical)) = kept {
                self.make_way(&turn, group, logical, tags).await?;
            }
            made?;
            return Err(Error::Internal { problem: format!("lvcreate ended well, but {group}/{name} is not there") });
        }
        flushed?;
        self.new_thick_snapshot.notify_one();
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

    /// Whether the snapshot holds what its volume held. One that is not active, and of which nothing else is noted, was whole
    /// when it was last.
    pub(in crate::node) async fn is_whole(&self, snapshot: &VolumeSnapshot) -> Result<bool> {
        Ok(!snapshot.tags.lost && self.shows_no_loss(&snapshot.group, &snapshot.logical).await?)
    }

    /// That a snapshot is whole, as far as can be told while it is not active.
    pub(in crate::node) async fn ensure_kept(&self, origin: &Origin) -> Result<()> {
        if self.is_kept(&origin.group, &origin.logical).await? { Ok(()) } else { Err(lost(origin)) }
    }

    /// That what is read, and so is active, is whole and still what it was.
    pub(in crate::node) async fn ensure_readable(&self, origin: &Origin) -> Result<()> {
        let (group, logical) = (&origin.group, &origin.logical);
        let is_whole = match self.snapshot_status(group, logical).await? {
            Some(SnapshotStatus::Lost) => {
                self.note_lost(&group.name, &logical.name, &logical.mapper_uuid(group)).await?;
                false
            }
            Some(status) => status.is_whole(),
            None => logical.thin.is_some(),
        };
        if is_whole { Ok(()) } else { Err(lost(origin)) }
    }

    /// Remembers of the snapshots of a volume which of them are lost, before it becomes inactive and nobody knows.
    pub(in crate::node) async fn note_lost_of(&self, volume: &Volume) -> Result<()> {
        for snapshot in volume.snapshots() {
            if self.snapshot_status(&volume.group, snapshot).await? == Some(SnapshotStatus::Lost) {
                self.note_lost(&volume.group.name, &snapshot.name, &snapshot.mapper_uuid(&volume.group)).await?;
            }
        }
        Ok(())
    }

    /// Remembers that the snapshot with the device of that UUID is lost: the kernel tells of it only while it is active.
    pub(in crate::node) async fn note_lost(&self, group: &str, name: &str, uuid: &str) -> Result<()> {
        let turn = self.writer.turn(group).await;
        let to_note = |view: &View| {
            let Some((group, logical)) = view.logical_volume_in(group, name) else {
                // Its tags are not known.
                return why_hidden(view, group, &format!("snapshot {name}")).map_or(Ok(None), Err);
            };
            let is_it = logical.mapper_uuid(group) == uuid;
            let is_to = is_it && SnapshotTags::parse(&logical.tags).is_some_and(|tags| !tags.lost);
            Ok(is_to.then(|| Arc::clone(group)))
        };
        let Some(there) = to_note(&*self.groups.read().await?)? else { return Ok(()) };
        let noted = self.writer.change_tags(&turn, &there, name, &[String::from(LOST)], &[]).await;
        drop(turn);
        self.reaper.changed(group);
        let (after, flushed) = tokio::join!(self.groups.read(), self.writer.flush(&there));
        if to_note(&*after?)?.is_some() {
            noted?;
            return Err(Error::Internal { problem: format!("{group}/{name} took no tag") });
        }
        flushed
    }

    /// What the kernel says of a thick snapshot; nothing while it is not active, or is none.
    pub(in crate::node) async fn snapshot_status(
        &self,
        group: &VolumeGroup,
        logical: &LogicalVolume,
    ) -> Result<Option<SnapshotStatus>> {
        if logical.thin.is_some() {
            return Ok(None);
        }
        let status = self.kernel.snapshot_status(&logical.mapper_uuid(group)).await;
        status.map_err(|source| Error::kernel("could not ask device-mapper about a snapshot", source))
    }

    pub(super) async fn is_kept(&self, group: &VolumeGroup, logical: &LogicalVolume) -> Result<bool> {
        if SnapshotTags::parse(&logical.tags).is_some_and(|tags| tags.lost) {
            return Ok(false);
        }
        self.shows_no_loss(group, logical).await
    }

    /// Whether device-mapper says that it is whole, or nothing.
    async fn shows_no_loss(&self, group: &VolumeGroup, logical: &LogicalVolume) -> Result<bool> {
        Ok(self.snapshot_status(group, logical).await?.is_none_or(SnapshotStatus::is_whole))
    }
}

fn lost(origin: &Origin) -> Error {
    let (group, logical) = (&origin.group, &origin.logical);
    Error::precondition(format!(
        "snapshot {}/{} is lost: more of its volume was overwritten than its reserve holds; make a new one, with a larger \
         snapshotReserve",
        group.name, logical.name
    ))
}
