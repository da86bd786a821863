//! `CreateVolume` with a source: a volume that holds what another one, or a snapshot, held. It is never formatted, whatever it
//! holds (design law 1): no copy is tagged `fresh`.

mod copies;
mod fill;
mod plan;
mod reading;
mod used;
mod uuid;

pub use self::copies::{Copies, Progress};
pub(in crate::node) use self::uuid::ensure_log_is_whole;

use crate::csi::request::size::SizeRange;
use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::layout::Layout;
use crate::lvm::tags::content::Content;
use crate::lvm::tags::{CopiedFrom, UNGROWN, VolumeTags};
use crate::lvm::volume_id::VolumeId;
use crate::lvm::writer::Quiet;
use crate::node::Node;
use crate::node::create::NewVolume;
use crate::node::pools::cut::Origin;
use crate::node::snapshot::VolumeSnapshot;
use crate::node::volume::Volume;

/// What a volume is a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A snapshot of this node, by its logical volume.
    Snapshot(String),
    /// A volume of this node, by its logical volume.
    Volume(String),
}

impl Source {
    /// The logical volume's name.
    pub fn logical_name(&self) -> &str {
        match self {
            Self::Snapshot(name) | Self::Volume(name) => name,
        }
    }
}

impl Node {
    /// The source that an id names. One on another node keeps nobody from asking there: no room here.
    pub fn source(&self, id: &str, of: impl FnOnce(String) -> Source) -> Result<Source> {
        let Some(parsed) = VolumeId::parse(id) else {
            return Err(Error::NotFound { what: format!("volume_content_source {id:?}") });
        };
        if parsed.node != self.identity.topology {
            let reason = format!(
                "volume_content_source {id} is on node {:?}, and copies are made where their source is; this is node {:?}",
                parsed.node, self.identity.topology
            );
            return Err(Error::NoRoom { reason });
        }
        Ok(of(parsed.logical_volume))
    }

    /// Makes a volume of that logical name from its source: at once within a thin pool, by copying otherwise.
    pub(super) async fn copy(
        &self,
        name: &str,
        source: &Source,
        new: &NewVolume,
        quiet: Option<Quiet>,
    ) -> Result<Volume> {
        let lock = self.locks.take(source.logical_name(), "being copied")?;
        let view = self.groups.read().await?;
        let (origin, bytes, content) = self.origin(&view, source).await?;
        if let (Some(held), Some(wanted)) = (&content.file_system, &new.file_system)
            && held != wanted
        {
            let problem = format!("is {wanted}, but the source holds {held}, and copies are not formatted");
            return Err(Error::invalid("volume_capabilities.mount.fs_type", problem));
        }
        let extents = new.size.extents(bytes, origin.group.extent_bytes)?;
        if extents.saturating_mul(origin.group.extent_bytes) < bytes {
            return Err(Error::OutOfRange {
                field: String::from("capacity_range"),
                problem: format!("allows less than the {bytes} bytes of the source; a copy has at least these"),
            });
        }
        if is_in_pool_of(&origin, new) {
            let tags = self.tags_of(new, content.of_copy(source.logical_name()));
            return self.copy_at_once(name, &origin, extents, tags).await;
        }
        let reading = self.reading(name, source, lock).await?;
        let required = new.size.required.map_or(bytes, |required| required.max(bytes));
        let sized = NewVolume { size: SizeRange { required: Some(required), ..new.size }, ..new.clone() };
        // An earlier try may have got as far as what is read: then the copy is of that moment.
        let tags = reading.content.of_copy(source.logical_name());
        let copied = tags.copied.map(|copied| CopiedFrom { unfinished: true, ..copied });
        match self.place(&view, name, &sized, VolumeTags { copied, ..tags }, quiet).await {
            Ok(made) => self.fill(made, reading, (true, new.raw)).await,
            Err(error) => {
                // Without room nothing may be left behind.
                self.let_go(&reading).await;
                Err(error)
            }
        }
    }

    async fn copy_at_once(&self, name: &str, origin: &Origin, extents: u64, tags: VolumeTags) -> Result<Volume> {
        let ungrown = extents > origin.logical.extents;
        let copied = tags.copied.map(|copied| CopiedFrom { ungrown, ..copied });
        let tags = VolumeTags { copied, ..tags };
        let after = self.cut(origin, extents, name, &tags.to_tags()).await?;
        let made = Volume::find(&after, name)?;
        let made = made.ok_or_else(|| Error::Internal { problem: format!("{name} is not there after it was made") })?;
        if !ungrown {
            return Ok(made);
        }
        self.change_tags(&made, &[], &[String::from(UNGROWN)]).await?;
        self.volume(name).await
    }

    /// Goes on with a copy that an earlier try did not end.
    pub(super) async fn go_on(&self, volume: Volume, source: &Source, new: &NewVolume) -> Result<Volume> {
        if volume.tags.incomplete().is_some_and(|copied| copied.unfinished) {
            return match self.reading_again(&volume, source).await {
                Ok(reading) => self.fill(volume, reading, (false, new.raw)).await,
                Err(error @ (Error::NotFound { .. } | Error::FailedPrecondition { .. } | Error::NoRoom { .. })) => {
                    // It will never be whole, or may stand in its own way, and the caller need not ask again.
                    self.mark_deleting(&volume).await?;
                    Err(error)
                }
                Err(error) => Err(error),
            };
        }
        let name = volume.logical.name.clone();
        match self.extend(volume.clone(), new.size).await {
            Ok(grown) => self.change_tags(&grown, &[], &[String::from(UNGROWN)]).await?,
            Err(Error::OutOfRange { problem: reason, .. }) => {
                // Without room nothing may be left behind.
                self.mark_deleting(&volume).await?;
                return Err(Error::NoRoom { reason });
            }
            Err(error) => return Err(error),
        }
        self.volume(&name).await
    }

    /// Where the source is, its bytes, and what is on it.
    async fn origin(&self, view: &View, source: &Source) -> Result<(Origin, u64, Content)> {
        match source {
            Source::Snapshot(name) => {
                let Some(snapshot) = VolumeSnapshot::find(view, name)? else {
                    return Err(self.no_snapshot(view, name).await);
                };
                let (bytes, content) = (snapshot.bytes(), snapshot.tags.content.clone());
                Ok((Origin { group: snapshot.group, logical: snapshot.logical }, bytes, content))
            }
            Source::Volume(name) => {
                let volume = self.volume(name).await?;
                let (bytes, content) = (volume.bytes(), Content::of(&volume.tags));
                Ok((Origin { group: volume.group, logical: volume.logical }, bytes, content))
            }
        }
    }
}

/// Whether a copy of the origin can be a thin snapshot of it: the class's volumes are in its pool.
fn is_in_pool_of(origin: &Origin, new: &NewVolume) -> bool {
    match (&new.class.layout, &origin.logical.thin) {
        (Layout::Thin(rules), Some(thin)) => thin.pool == rules.name && new.class.uses(&origin.group.name),
        _ => false,
    }
}
