//! Copying block by block, where device-mapper cannot do it at once. Until all is copied the volume is tagged `unfinished`, and
//! nobody gets it; after a crash the repeated call begins anew.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::Source;
use crate::error::{Error, Result};
use crate::host::kernel::{Copying, Held, MappedDevice, Stretch};
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::names::copy_source_name;
use crate::lvm::tags::{KIND_COPY_SOURCE, UNFINISHED, copy_source_tags};
use crate::node::Node;
use crate::node::pools::cut::Origin;
use crate::node::snapshot::VolumeSnapshot;
use crate::node::volume::{Volume, device_path};

/// How many volumes are copied at once: more would only share the disks.
const AT_ONCE: usize = 2;
/// Bytes that are copied before it is looked whether to go on.
const STEP_BYTES: u64 = 64 << 20;

/// The copies that are being made.
pub struct Copies {
    permits: Semaphore,
    /// Bytes copied, and in all, by the volume's name.
    progress: Mutex<HashMap<String, (u64, u64)>>,
}

impl Default for Copies {
    fn default() -> Self {
        Self { permits: Semaphore::new(AT_ONCE), progress: Mutex::default() }
    }
}

impl Copies {
    /// How far the copying of a volume is, for messages: `copied (3 of 10 MiB)`.
    pub fn progress(&self, volume: &str) -> Option<String> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.get(volume).map(|(done, all)| format!("copied ({} of {} MiB)", done >> 20, all >> 20))
    }

    fn note(&self, volume: &str, done: u64, all: u64) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.insert(volume.to_owned(), (done, all));
    }

    fn forget(&self, volume: &str) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(volume);
    }
}

/// What is read while it is copied.
struct From {
    origin: Origin,
    bytes: u64,
    /// The class of whose volumes it is, where it was made for this copy and goes with it.
    own: Option<String>,
}

impl Node {
    /// Copies what the source holds to a volume that was made for it, and takes the tag away.
    pub(in crate::node) async fn fill(&self, volume: Volume, source: &Source) -> Result<Volume> {
        let name = volume.logical.name.clone();
        let from = self.from(&name, source).await?;
        self.copies.note(&name, 0, from.bytes);
        let copied = self.copy_blocks(&volume, source, &from).await;
        self.copies.forget(&name);
        copied?;
        // First: without the tag nobody would look for what was made for the copy.
        self.let_go(&from, &volume).await?;
        self.change_tags(&volume, &[], &[String::from(UNFINISHED)]).await?;
        self.volume(&name).await
    }

    /// A snapshot is read as it is; of a volume, which its user may be writing to, one is made.
    async fn from(&self, copy: &str, source: &Source) -> Result<From> {
        let view = self.groups.read().await?;
        match source {
            Source::Snapshot(name) => match VolumeSnapshot::find(&view, name)? {
                Some(snapshot) => {
                    let bytes = snapshot.bytes();
                    let origin = Origin { group: snapshot.group, logical: snapshot.logical };
                    Ok(From { origin, bytes, own: None })
                }
                None => Err(self.no_snapshot(&view, name).await),
            },
            Source::Volume(name) => {
                let _source = self.locks.take(name, "being copied")?;
                let (volume, made) = (self.volume(name).await?, copy_source_name(copy));
                let (bytes, class) = (volume.bytes(), volume.tags.class.clone());
                let tags = copy_source_tags(&self.identity.driver);
                let view = if volume.group.logical_volume(&made).is_some() {
                    view
                } else if volume.logical.thin.is_none() {
                    self.keep(&volume, &made, &tags).await?
                } else {
                    let extents = volume.logical.extents;
                    let origin = Origin { group: volume.group.clone(), logical: volume.logical };
                    self.cut(&origin, extents, &made, &tags).await?
                };
                let group = view.group(&volume.group.name).cloned();
                let found = group.and_then(|group| Some((group.logical_volume(&made)?.clone(), group)));
                let missing = || Error::Internal { problem: format!("{made} is not there after it was made") };
                let (logical, group) = found.ok_or_else(missing)?;
                Ok(From { origin: Origin { group, logical }, bytes, own: Some(class) })
            }
        }
    }

    async fn copy_blocks(&self, volume: &Volume, source: &Source, from: &From) -> Result<()> {
        let stopping = || Error::Unavailable { problem: String::from("the node is ending; the copy is begun anew") };
        let _permit = self.copies.permits.acquire().await.map_err(|_closed| stopping())?;
        let _source = match source {
            Source::Snapshot(name) => Some(self.locks.take(name, "being copied")?),
            Source::Volume(_) => None,
        };
        let (read, _read) = self.held_origin(&from.origin).await?;
        let (written, _written) = self.held(volume).await?;
        let mut offset = 0;
        while offset < from.bytes {
            if self.detached.is_closed() {
                return Err(stopping());
            }
            let length = STEP_BYTES.min(from.bytes - offset);
            let stretch = Stretch { device: read.clone(), offset, length };
            let copying = Copying { from: stretch, to: device_path(&written), is_zeroed: volume.is_zeroed() };
            let failed = |source| Error::kernel(format!("could not copy to {}", volume.full_name()), source);
            self.kernel.copy(copying).await.map_err(failed)?;
            offset += length;
            self.copies.note(&volume.logical.name, offset, from.bytes);
        }
        let failed = |source| Error::kernel(format!("could not flush {}", volume.full_name()), source);
        self.kernel.flush(&device_path(&written)).await.map_err(failed)?;
        self.ensure_kept(&from.origin).await
    }

    /// The device of what is read, activated and kept from going away.
    async fn held_origin(&self, origin: &Origin) -> Result<(PathBuf, Held)> {
        let (group, logical) = (&origin.group, &origin.logical);
        let find = async || -> Result<Option<MappedDevice>> {
            let device = self.kernel.mapped_device(&logical.mapper_uuid(group)).await;
            device.map_err(|source| Error::kernel("could not ask device-mapper", source))
        };
        if find().await?.is_none() {
            let turn = self.writer.turn(&group.name).await;
            let activation = self.activation(group, logical).await?;
            self.writer.activate(&turn, group, &logical.name, activation).await?;
        }
        self.ensure_kept(origin).await?;
        let missing = || Error::Internal { problem: format!("{}/{} has no device", group.name, logical.name) };
        let path = device_path(&find().await?.ok_or_else(missing)?);
        let failed = |source| Error::kernel(format!("could not open {}/{}", group.name, logical.name), source);
        let held = self.kernel.hold(&path).await.map_err(failed)?;
        Ok((path, held))
    }

    /// Takes away what was made for the copy, and the devices.
    async fn let_go(&self, from: &From, volume: &Volume) -> Result<()> {
        let (group, logical) = (&from.origin.group, &from.origin.logical);
        let turn = self.writer.turn(&volume.group.name).await;
        self.writer.deactivate(&turn, &volume.group, &volume.logical.name).await?;
        drop(turn);
        if let Some(class) = &from.own {
            return self.remove_copy_source(group, logical, class).await;
        }
        // A thick one is active as long as its volume is, whose user may need it.
        if logical.thin.is_some() {
            let turn = self.writer.turn(&group.name).await;
            self.writer.deactivate(&turn, group, &logical.name).await?;
        }
        Ok(())
    }

    /// Takes away what was made for the copy of that name, if it is there: the copy is not wanted any more.
    pub(in crate::node) async fn drop_copy_source(&self, view: &View, copy: &str) -> Result<()> {
        let name = copy_source_name(copy);
        let found = view.logical_volumes(&name).map(|(group, logical)| (Arc::clone(group), logical.clone())).next();
        let Some((group, logical)) = found else { return Ok(()) };
        if !logical.tags.iter().any(|tag| tag == KIND_COPY_SOURCE) {
            return Ok(());
        }
        self.remove_copy_source(&group, &logical, "").await
    }

    async fn remove_copy_source(&self, group: &VolumeGroup, logical: &LogicalVolume, class: &str) -> Result<()> {
        if logical.thin.is_none() {
            return self.discard_thick(group, &logical.name, class, KIND_COPY_SOURCE).await;
        }
        let turn = self.writer.turn(&group.name).await;
        self.writer.remove(&turn, group, std::slice::from_ref(&logical.name)).await?;
        drop(turn);
        self.reaper.changed(&group.name);
        self.writer.flush(group).await
    }
}
