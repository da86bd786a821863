//! Volume groups as the metadata on their physical volumes describes them. Sizes are in extents
//! unless a name says bytes.

use std::path::PathBuf;
use std::sync::Arc;

#[cfg(test)]
pub(crate) mod sample;

/// A volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeGroup {
    /// Its name.
    pub name: String,
    /// Its UUID, with hyphens.
    pub uuid: String,
    /// Counts its changes.
    pub seqno: u64,
    /// Bytes of one extent.
    pub extent_bytes: u64,
    /// Status words: `RESIZEABLE`, `READ`, `WRITE`, `EXPORTED`, `PARTIAL`…
    pub status: Vec<String>,
    /// The system that owns it, where system ids are used (lvmsystemid(7)); groups of this machine itself have none
    /// here.
    pub system_id: Option<String>,
    /// `sanlock`, `dlm`… for a shared group.
    pub lock_type: Option<String>,
    /// The group's own tags.
    pub tags: Vec<String>,
    /// Its physical volumes.
    pub physical_volumes: Vec<PhysicalVolume>,
    /// All its logical volumes by name, hidden ones included. There are thousands, which are looked at much more often than they change.
    pub logical_volumes: Vec<Arc<LogicalVolume>>,
    /// The fullest of its metadata areas.
    pub metadata_area: MetadataArea,
}

/// A physical volume of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhysicalVolume {
    /// Its name within the metadata: `pv0`.
    pub name: String,
    /// Its UUID, with hyphens.
    pub uuid: String,
    /// The device it was found on; `None` when it is missing.
    pub device: Option<PathBuf>,
    /// Extents in all.
    pub extents: u64,
    /// Extents that no logical volume uses.
    pub free_extents: u64,
    /// Whether new volumes may be put on it (`pvchange -x`).
    pub allocatable: bool,
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalVolume {
    /// Its name.
    pub name: String,
    /// Its UUID, with hyphens.
    pub uuid: String,
    /// Its size.
    pub extents: u64,
    /// When it was made, seconds since 1970.
    pub created: Option<u64>,
    /// Status words: `READ`, `WRITE`, `VISIBLE`…
    pub status: Vec<String>,
    /// Its tags, in the order of the metadata.
    pub tags: Vec<String>,
    /// The types of its segments, in order: `striped`, `thin`…
    pub segment_types: Vec<String>,
    /// The names (`pv0`) of the physical volumes that its segments lie on directly.
    pub on_physical_volumes: Vec<String>,
    /// The names of the logical volumes that it is a snapshot of and cannot do without.
    pub snapshot_of: Vec<String>,
    /// What makes it a thin pool.
    pub pool: Option<Pool>,
    /// What makes it a thin volume.
    pub thin: Option<ThinVolume>,
}

/// What is a thin pool's alone. Its extents are those of its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The name of the hidden volume with its metadata.
    pub metadata: String,
    /// The name of the hidden volume with its data.
    pub data: String,
    /// Bytes of the piece in which it hands out room.
    pub chunk_bytes: u64,
    /// Whether a piece is zeroed before it is handed out, so that nobody reads what it held before.
    pub zeroes: bool,
    /// Whether writes that need room fail at once when it is full. Else they wait for a minute, and whoever wrote hangs.
    pub fails_when_full: bool,
    /// Counts lvm's changes of it. The pool itself counts, too, and is behind by one while lvm is about to make a change; lvm refuses it
    /// when the two differ otherwise.
    pub transaction_id: u64,
    /// Whether lvm has not told the pool of the last change yet, or not noted that it has: a command runs, or was killed.
    pub is_pending: bool,
}

/// What is a thin volume's alone. Its extents are promised, not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThinVolume {
    /// The name of its pool.
    pub pool: String,
    /// Its number within the pool.
    pub device_id: u64,
    /// The name of the volume that it was made of, as long as that is there.
    pub origin: Option<String>,
    /// Whether lvm has only noted that it is to be made, and not that it was: the command broke off, or still runs.
    pub is_unsent: bool,
}

/// Room for the text of the metadata on one physical volume, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetadataArea {
    /// The ring buffer, its header left out.
    pub size: u64,
    /// The text of the group as it is now. A commit needs room for the old and the new text at once.
    pub used: u64,
}

impl VolumeGroup {
    /// Extents that new volumes may take: free, on physical volumes that are there and allocatable.
    pub fn free_extents(&self) -> u64 {
        self.physical_volumes
            .iter()
            .filter(|volume| volume.allocatable && volume.device.is_some())
            .map(|volume| volume.free_extents)
            .sum()
    }

    /// Extents in all.
    pub fn extents(&self) -> u64 {
        self.physical_volumes.iter().map(|volume| volume.extents).sum()
    }

    /// Whether one of its physical volumes is not there.
    pub fn is_partial(&self) -> bool {
        self.physical_volumes.iter().any(|volume| volume.device.is_none())
    }

    /// The logical volume of that name.
    pub fn logical_volume(&self, name: &str) -> Option<&Arc<LogicalVolume>> {
        self.logical_volumes.iter().find(|volume| volume.name == name)
    }

    /// The thin pool that a logical volume is in.
    pub fn pool_of(&self, logical: &LogicalVolume) -> Option<&Arc<LogicalVolume>> {
        self.logical_volume(&logical.thin.as_ref()?.pool)
    }

    /// What is in the thin pool of that name, with what makes it thin.
    pub fn in_pool<'g>(&'g self, pool: &'g str) -> impl Iterator<Item = (&'g Arc<LogicalVolume>, &'g ThinVolume)> {
        let thin = self.logical_volumes.iter().filter_map(|logical| Some((logical, logical.thin.as_ref()?)));
        thin.filter(move |(_, thin)| thin.pool == pool)
    }

    /// A snapshot of the logical volume of that name; it goes when its origin does.
    pub fn snapshot_of(&self, origin: &str) -> Option<&Arc<LogicalVolume>> {
        self.snapshots_of(origin).next()
    }

    /// All such snapshots.
    pub fn snapshots_of(&self, origin: &str) -> impl Iterator<Item = &Arc<LogicalVolume>> {
        self.logical_volumes.iter().filter(move |volume| volume.snapshot_of.iter().any(|name| name == origin))
    }

    /// Whether the status says so.
    pub fn has_status(&self, word: &str) -> bool {
        self.status.iter().any(|status| status == word)
    }
}

impl LogicalVolume {
    /// Device-mapper's UUID of its device.
    pub fn mapper_uuid(&self, group: &VolumeGroup) -> String {
        format!("LVM-{}{}", group.uuid.replace('-', ""), self.uuid.replace('-', ""))
    }

    /// Whether it can be a snapshot: in a pool every volume can, a thick one only as long as it hangs on another.
    pub fn is_snapshot(&self) -> bool {
        self.thin.is_some() && !self.is_unsent() || !self.snapshot_of.is_empty()
    }

    /// Whether it is a thin volume that shows another one, outside of its pool, where its pool holds nothing for it.
    pub fn has_external_origin(&self) -> bool {
        self.thin.is_some() && !self.snapshot_of.is_empty()
    }

    /// Whether it is a thin volume that its pool does not know, perhaps.
    pub fn is_unsent(&self) -> bool {
        self.thin.as_ref().is_some_and(|thin| thin.is_unsent)
    }

    /// That of the device of a thin pool's metadata.
    pub fn metadata_mapper_uuid(&self, group: &VolumeGroup) -> String {
        self.mapper_uuid(group) + "-tmeta"
    }

    /// That of the device in which a thin pool does its work; the one of [`LogicalVolume::mapper_uuid`] keeps it active.
    pub fn pool_mapper_uuid(&self, group: &VolumeGroup) -> String {
        self.mapper_uuid(group) + "-tpool"
    }
}
