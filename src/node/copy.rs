//! `CreateVolume` with a source: a volume that holds what another one, or a snapshot, held. It is never formatted, whatever it
//! holds (design law 1): no copy is tagged `fresh`.

mod fill;
mod uuid;

pub use self::fill::Copies;

use std::sync::Arc;

use crate::csi::request::size::SizeRange;
use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::layout::Layout;
use crate::lvm::tags::{CopiedFrom, VolumeTags};
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
        view: &Arc<View>,
        name: &str,
        source: &Source,
        new: &NewVolume,
        quiet: Option<Quiet>,
    ) -> Result<Volume> {
        let (origin, content) = {
            let _source = self.locks.take(source.logical_name(), "being copied")?;
            let (origin, bytes, content) = self.origin(view, source).await?;
            let extents = new.size.extents(bytes, origin.group.extent_bytes)?;
            if extents.saturating_mul(origin.group.extent_bytes) < bytes {
                return Err(Error::OutOfRange {
                    field: String::from("capacity_range"),
                    problem: format!("allows less than the {bytes} bytes of the source; a copy has at least these"),
                });
            }
            if is_in_pool_of(&origin, new) {
                let tags = self.tags_of(new, content);
                let after = self.cut(&origin, extents, name, &tags.to_tags()).await?;
                let made = Volume::find(&after, name)?;
                let missing = || Error::Internal { problem: format!("{name} is not there after it was made") };
                return made.ok_or_else(missing);
            }
            (bytes, content)
        };
        let required = new.size.required.map_or(origin, |required| required.max(origin));
        let sized = NewVolume { size: SizeRange { required: Some(required), ..new.size }, ..new.clone() };
        let copied = content.copied.map(|copied| CopiedFrom { unfinished: true, ..copied });
        let made = self.place(view, name, &sized, VolumeTags { copied, ..content }, quiet).await?;
        self.fill(made, source).await
    }

    /// Where the source is, its bytes, and the tags that tell what a copy of it holds.
    async fn origin(&self, view: &View, source: &Source) -> Result<(Origin, u64, VolumeTags)> {
        match source {
            Source::Snapshot(name) => {
                let Some(snapshot) = VolumeSnapshot::find(view, name)? else {
                    return Err(self.no_snapshot(view, name).await);
                };
                let (bytes, content) = (snapshot.bytes(), snapshot.tags.of_copy(name));
                Ok((Origin { group: snapshot.group, logical: snapshot.logical }, bytes, content))
            }
            Source::Volume(name) => {
                let volume = self.volume(name).await?;
                let (bytes, content) = (volume.bytes(), volume.tags.of_copy(name));
                Ok((Origin { group: volume.group, logical: volume.logical }, bytes, content))
            }
        }
    }

    /// A copy is as large as its source first; a crash may have come before it was grown. One that cannot be grown any more
    /// goes again, for without room nothing may be left behind.
    pub(super) async fn completed(&self, volume: Volume, new: &NewVolume) -> Result<Volume> {
        if new.size.required.is_none_or(|required| required <= volume.bytes()) {
            return Ok(volume);
        }
        let (group, name) = (Arc::clone(&volume.group), volume.logical.name.clone());
        match self.extend(volume, new.size).await {
            Err(Error::OutOfRange { problem: reason, .. }) => {
                let turn = self.writer.turn(&group.name).await;
                self.writer.remove(&turn, &group, &[name]).await?;
                drop(turn);
                self.writer.flush(&group).await?;
                Err(Error::NoRoom { reason })
            }
            grown => grown,
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
