//! Snapshots of volumes.
//!
//! - [`create`], [`delete`], [`list`]: the calls
//! - [`group`]: those of several volumes at one moment
//! - [`thick`], [`reserve`]: what is other about those of thick volumes, and their room

pub mod blocks;
pub mod create;
pub mod delete;
pub mod group;
pub mod list;
pub mod reserve;
pub mod thick;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::tags::snapshot::SnapshotTags;
use crate::node::Node;

/// A logical volume that carries the tags of a snapshot.
#[derive(Debug, Clone)]
pub struct VolumeSnapshot {
    /// The group it is in.
    pub group: Arc<VolumeGroup>,
    /// The logical volume.
    pub logical: Arc<LogicalVolume>,
    /// What its tags say.
    pub tags: SnapshotTags,
}

impl VolumeSnapshot {
    fn of(group: &Arc<VolumeGroup>, logical: &Arc<LogicalVolume>) -> Option<Self> {
        // What a try that broke off leaves of a thick one holds nothing.
        let tags = SnapshotTags::parse(&logical.tags).filter(|_| logical.is_snapshot())?;
        Some(Self { group: Arc::clone(group), logical: Arc::clone(logical), tags })
    }

    /// All of them, by name. There are thousands, so the tags of each are read in its turn only.
    pub fn all(view: &View) -> impl Iterator<Item = Self> + use<> {
        let of_group = |group: &Arc<VolumeGroup>| {
            let group = Arc::clone(group);
            group.logical_volumes.clone().into_iter().map(move |logical| (Arc::clone(&group), logical))
        };
        let mut volumes: Vec<(Arc<VolumeGroup>, Arc<LogicalVolume>)> = view.groups.iter().flat_map(of_group).collect();
        volumes.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        volumes.into_iter().filter_map(|(group, logical)| Self::of(&group, &logical))
    }

    /// The one of that logical name. Two cannot be told apart by an id, so nothing is done to either.
    pub fn find(view: &View, logical_name: &str) -> Result<Option<Self>> {
        let mut found = view.logical_volumes(logical_name).filter_map(|(group, logical)| Self::of(group, logical));
        match (found.next(), found.next()) {
            (Some(first), Some(second)) => Err(Error::precondition(format!(
                "snapshot {logical_name} exists in volume group {} and in {}; rename one of them",
                first.group.name, second.group.name
            ))),
            (first, _) => Ok(first),
        }
    }

    /// Its size, which a volume that is restored from it has at least; bytes.
    pub fn bytes(&self) -> u64 {
        self.tags.bytes.unwrap_or(self.logical.extents * self.group.extent_bytes)
    }

    /// When its volume held what it holds, seconds since 1970.
    pub fn taken(&self) -> u64 {
        self.tags.taken.or(self.logical.created).unwrap_or_default()
    }

    /// Whether it is of a thick volume, and so not without that.
    pub fn is_thick(&self) -> bool {
        self.logical.thin.is_none()
    }
}

impl Node {
    /// A snapshot that is there.
    pub(super) async fn snapshot(&self, logical_name: &str) -> Result<VolumeSnapshot> {
        let view = self.groups.read().await?;
        match VolumeSnapshot::find(&view, logical_name)? {
            Some(snapshot) => Ok(snapshot),
            None => Err(self.no_snapshot(&view, logical_name).await),
        }
    }

    /// Why a snapshot was not found: its group is out of reach, or it does not exist.
    pub(super) async fn no_snapshot(&self, view: &View, logical_name: &str) -> Error {
        let unknown = self.why_no_snapshot(view, logical_name).await;
        unknown.unwrap_or_else(|| Error::NotFound { what: format!("snapshot {:?}", self.volume_id(logical_name)) })
    }

    /// Why a snapshot that was not found may exist all the same.
    async fn why_no_snapshot(&self, view: &View, logical_name: &str) -> Option<Error> {
        let counts = |tags: &[String]| SnapshotTags::parse(tags).is_some();
        match self.why_out_of_reach(view, logical_name, counts).await {
            None => super::why_unread(view, &format!("volume {logical_name}")),
            out_of_reach => out_of_reach,
        }
    }
}
