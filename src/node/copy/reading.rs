//! What is read while a volume is copied block by block: a snapshot as it is, or a copy source, a snapshot that is made for that
//! since the volume's user may be writing to it. Nobody else sees a copy source, and it goes when the copy is whole or not
//! wanted any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Source;
use crate::error::{Error, Result};
use crate::host::file_system::FileSystem;
use crate::host::kernel::{Held, MappedDevice};
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::names::copy_source_name;
use crate::lvm::tags::KIND_COPY_SOURCE;
use crate::lvm::tags::content::Content;
use crate::lvm::tags::copy_source::CopySourceTags;
use crate::node::Node;
use crate::node::locks;
use crate::node::pools::cut::Origin;
use crate::node::volume::Volume;

/// What is read.
pub(super) struct Reading {
    pub(super) origin: Origin,
    /// How much of it, from the start.
    pub(super) bytes: u64,
    /// What was on its volume when it was made.
    pub(super) content: Content,
    /// Keeps a snapshot from being deleted meanwhile.
    #[expect(dead_code, reason = "held, not read")]
    pub(super) lock: Option<locks::Held>,
    /// Whether it was made for this copy.
    pub(super) own: bool,
}

/// What is on a source, as far as a copy of it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Nobody ever used it, so that what is at its ends is of another tenant of the disk.
    Nothing,
    /// A file system, and it was never its user's as a block device.
    Files(FileSystem),
    /// Nobody knows.
    Anything,
}

impl Reading {
    pub(super) fn holds(&self) -> Holds {
        match &self.content {
            Content { empty: true, .. } => Holds::Nothing,
            Content { file_system: Some(word), block: false, .. } => word.parse().map_or(Holds::Anything, Holds::Files),
            _ => Holds::Anything,
        }
    }
}

impl Node {
    /// What is read for a copy of that name. The caller has the copy's lock; the source's is kept as long as it takes.
    pub(super) async fn reading(&self, copy: &str, source: &Source, lock: locks::Held) -> Result<Reading> {
        match source {
            Source::Snapshot(_) => {
                let view = self.groups.read().await?;
                let (origin, bytes, content) = self.origin(&view, source).await?;
                self.ensure_kept(&origin).await?;
                Ok(Reading { origin, bytes, content, lock: Some(lock), own: false })
            }
            Source::Volume(of) => self.copy_source(copy, of).await,
        }
    }

    /// The same for a copy that an earlier try began, which may have been of something else.
    pub(super) async fn reading_again(&self, copy: &Volume, source: &Source) -> Result<Reading> {
        let lock = self.locks.take(source.logical_name(), "being copied")?;
        let reading = self.reading(&copy.logical.name, source, lock).await?;
        let difference = if reading.bytes > copy.bytes() {
            format!("has {} bytes, and the copy {}", reading.bytes, copy.bytes())
        } else if !reading.content.is_of_copy(&copy.tags) {
            String::from("holds another file system than when the copy was begun, or is its user's as a raw device")
        } else {
            return Ok(reading);
        };
        let name = copy.full_name();
        Err(Error::precondition(format!("the source of {name} {difference}; delete the copy and make it anew")))
    }

    /// The copy source of a volume, made if it is not there. The caller has the volume's lock and the copy's.
    async fn copy_source(&self, copy: &str, of: &str) -> Result<Reading> {
        let (volume, name) = (self.volume(of).await?, copy_source_name(copy));
        let view = self.groups.read().await?;
        if let Some((group, logical)) = in_group(&view, &volume.group.name, &name) {
            return self.copy_source_there(copy, &volume, group, logical).await;
        }
        let content = Content::of(&volume.tags);
        let tags = CopySourceTags {
            of: volume.logical.uuid.clone(),
            class: volume.tags.class.clone(),
            bytes: volume.bytes(),
            content: content.clone(),
            copy: copy.to_owned(),
            driver: self.identity.driver.clone(),
        };
        let (group, bytes) = (volume.group.name.clone(), tags.bytes);
        let view = if volume.logical.thin.is_none() {
            self.keep(&volume, &name, &tags.to_tags()).await?
        } else {
            let extents = volume.logical.extents;
            let origin = Origin { group: volume.group, logical: volume.logical };
            self.cut(&origin, extents, &name, &tags.to_tags()).await?
        };
        let missing = || Error::Internal { problem: format!("{name} is not there after it was made") };
        let (group, logical) = in_group(&view, &group, &name).ok_or_else(missing)?;
        Ok(Reading { origin: Origin { group, logical }, bytes, content, lock: None, own: true })
    }

    /// What lies under the name of a copy source: that of an earlier try if it is still good for this one.
    async fn copy_source_there(
        &self,
        copy: &str,
        of: &Volume,
        group: Arc<VolumeGroup>,
        logical: Arc<LogicalVolume>,
    ) -> Result<Reading> {
        let Some(tags) = CopySourceTags::parse(&logical.tags) else {
            return Err(self.in_the_way(&group, &logical));
        };
        let origin = Origin { group, logical };
        let is_of_it = tags.of == of.logical.uuid && origin.logical.is_snapshot();
        if is_of_it && self.ensure_kept(&origin).await.is_ok() {
            return Ok(Reading { origin, bytes: tags.bytes, content: tags.content, lock: None, own: true });
        }
        self.remove_copy_source(&origin.group, &origin.logical, &tags).await?;
        let operation = String::from("what an earlier try was copied from is being removed");
        Err(Error::Busy { volume: copy.to_owned(), operation })
    }

    /// The device of what is read, activated and kept from going away.
    pub(super) async fn held_origin(&self, origin: &Origin) -> Result<(MappedDevice, Held)> {
        let (group, logical) = (&origin.group, &origin.logical);
        let (uuid, name) = (logical.mapper_uuid(group), format!("{}/{}", group.name, logical.name));
        let found = self.device_of(&uuid).await?;
        if found.as_ref().is_none_or(|device| device.suspended) {
            let turn = self.writer.turn(&group.name).await;
            if found.is_some() {
                self.keep_running(&turn, group, logical).await?;
            } else {
                let activation = self.activation(group, logical).await?;
                self.writer.activate(&turn, group, &logical.name, activation).await?;
            }
        }
        let missing = || Error::Internal { problem: format!("{name} was activated, but has no device") };
        let device = self.device_of(&uuid).await?.ok_or_else(missing)?;
        let held = self.hold(&device, &name).await?;
        self.ensure_readable(origin).await?;
        Ok((device, held))
    }

    /// Notes which volumes are active from now on only since a thick snapshot of theirs is read.
    pub(super) async fn lend(&self, origin: &Origin) -> Result<()> {
        for volume in volumes_of(origin) {
            // Whoever has the lock may be staging it.
            let Ok(_lock) = self.locks.take(&volume.name, "being looked at for a copy of its snapshot") else {
                continue;
            };
            if self.device_of(&volume.mapper_uuid(&origin.group)).await?.is_none() {
                self.copies.lend(&volume.uuid);
            }
        }
        Ok(())
    }

    /// Takes away what was made for the copy, and the device of what was read, with that of the volume that a thick one hangs
    /// on if nobody uses that. What fails here is left: a copy source to the next look for such, a device to whoever uses it next.
    pub(super) async fn let_go(&self, reading: &Reading) {
        let Origin { group, logical } = &reading.origin;
        let tags = CopySourceTags::parse(&logical.tags).filter(|_| reading.own);
        let done = match tags {
            Some(tags) => self.remove_copy_source(group, logical, &tags).await,
            None if logical.thin.is_some() => {
                self.deactivate_quietly(group, &logical.name).await;
                Ok(())
            }
            None => Ok(()),
        };
        if let Err(error) = done {
            tracing::warn!(%error, volume = logical.name, "could not remove what a volume was copied from; trying again later");
        }
        // A thick one is active as long as its volume is, whose user may have come meanwhile.
        for volume in volumes_of(&reading.origin) {
            let Ok(_lock) = self.locks.take(&volume.name, "being deactivated") else { continue };
            if self.copies.is_lent(&volume.uuid) {
                self.deactivate_quietly(group, &volume.name).await;
                if matches!(self.device_of(&volume.mapper_uuid(group)).await, Ok(None)) {
                    self.copies.end_lending(&volume.uuid);
                }
            }
        }
    }

    /// An inactive volume cannot be written by mistake; one that somebody has open stays active.
    pub(super) async fn deactivate_quietly(&self, group: &VolumeGroup, name: &str) {
        let turn = self.writer.turn(&group.name).await;
        if let Err(error) = self.writer.deactivate(&turn, group, name).await {
            tracing::debug!(%error, volume = name, "stays active");
        }
    }

    /// Takes away what was made for the copy of that name, if it is there: the copy is whole, or not wanted any more.
    pub(in crate::node) async fn drop_copy_source(&self, view: &View, copy: &str) {
        for (group, logical, tags) in copy_sources(view).filter(|(_, _, tags)| tags.copy == copy) {
            if let Err(error) = self.remove_copy_source(&group, &logical, &tags).await {
                tracing::warn!(%error, volume = logical.name, "could not remove what a volume was copied from");
            }
        }
    }

    /// Takes away the copy sources that no copy needs any more.
    pub(in crate::node) async fn drop_stale_copy_sources(&self, view: &View) {
        let is_ours = |tags: &CopySourceTags| tags.driver == self.identity.driver;
        let copies: BTreeSet<String> =
            copy_sources(view).filter(|(_, _, tags)| is_ours(tags)).map(|(_, _, tags)| tags.copy).collect();
        for copy in copies {
            // Who makes the copy has its lock, from before the copy source is made.
            let Ok(_lock) = self.locks.take(&copy, "looking for what it was copied from") else { continue };
            let Ok(view) = self.groups.read().await else { return };
            let is_needed = view.logical_volumes(&copy).any(|(group, logical)| {
                let volume = Volume::of(group, logical).filter(|volume| volume.tags.deleting.is_none());
                volume.is_some_and(|volume| volume.tags.incomplete().is_some())
            });
            if !is_needed {
                self.drop_copy_source(&view, &copy).await;
            }
        }
    }

    async fn remove_copy_source(
        &self,
        group: &VolumeGroup,
        logical: &LogicalVolume,
        tags: &CopySourceTags,
    ) -> Result<()> {
        if logical.thin.is_none() {
            return self.discard_thick(group, &logical.name, &tags.class, KIND_COPY_SOURCE).await;
        }
        let turn = self.writer.turn(&group.name).await;
        self.remove_volumes(&turn, group, std::slice::from_ref(&logical.name)).await?;
        drop(turn);
        self.reaper.changed(&group.name);
        self.writer.flush(group).await
    }
}

/// The volumes that a thick snapshot is of.
fn volumes_of(origin: &Origin) -> impl Iterator<Item = &Arc<LogicalVolume>> {
    origin.logical.snapshot_of.iter().filter_map(|name| origin.group.logical_volume(name))
}

fn in_group(view: &View, group: &str, name: &str) -> Option<(Arc<VolumeGroup>, Arc<LogicalVolume>)> {
    let (group, logical) = view.logical_volume_in(group, name)?;
    Some((Arc::clone(group), Arc::clone(logical)))
}

fn copy_sources(view: &View) -> impl Iterator<Item = (Arc<VolumeGroup>, Arc<LogicalVolume>, CopySourceTags)> {
    view.groups.iter().flat_map(|group| {
        let of = |logical: &Arc<LogicalVolume>| {
            Some((Arc::clone(group), Arc::clone(logical), CopySourceTags::parse(&logical.tags)?))
        };
        group.logical_volumes.iter().filter_map(of)
    })
}
