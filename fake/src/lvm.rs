//! A volume group as the fake of lvm keeps it: what its text says, and nothing of what the kernel has.

use std::collections::BTreeSet;

/// What makes a logical volume one of the driver's.
const KINDS: [&str; 5] = [
    "quarry.kind=volume",
    "quarry.kind=snapshot",
    "quarry.kind=incomplete-snapshot",
    "quarry.kind=copy-source",
    "quarry.kind=pool",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    /// What its UUID is made from.
    pub number: u64,
    pub seqno: u64,
    pub physical_volumes: Vec<PhysicalVolume>,
    pub volumes: Vec<LogicalVolume>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhysicalVolume {
    /// The disk's name: `sda`.
    pub disk: String,
    pub number: u64,
    pub extents: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalVolume {
    pub name: String,
    pub number: u64,
    pub tags: Vec<String>,
    /// What it has of the physical volumes itself.
    pub segments: Vec<Segment>,
    pub kind: Kind,
}

/// Extents in a row on one physical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub physical_volume: usize,
    pub start: usize,
    pub extents: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// lvm's own: the data and the metadata of a pool, and what it keeps for their repair.
    Hidden,
    /// The store of a thick snapshot. Its device shows the origin as it was, with so many extents.
    Snapshot {
        origin: String,
        extents: usize,
    },
    Pool(Pool),
    Thin(Thin),
}

/// A thin pool. Its data and metadata are the hidden volumes [`data_name`] and [`metadata_name`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub extents: usize,
    pub chunk_bytes: usize,
    pub transaction_id: u64,
    /// What the kernel was not told yet, perhaps: they are committed before they are sent, and taken away after it.
    pub messages: Vec<Message>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Of the thin volume of that name, with its number and that of what it is a snapshot of.
    Create { volume: String, device: u64, origin: Option<u64> },
    /// Of the device of that number.
    Delete(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thin {
    pub pool: String,
    pub device_id: u64,
    pub transaction_id: u64,
    pub extents: usize,
    pub origin: Option<String>,
}

/// The hidden volume that lvm keeps for the repair of any pool of a group.
pub const SPARE: &str = "lvol0_pmspare";

pub fn data_name(pool: &str) -> String {
    format!("{pool}_tdata")
}

pub fn metadata_name(pool: &str) -> String {
    format!("{pool}_tmeta")
}

impl Group {
    pub fn volume(&self, name: &str) -> Option<&LogicalVolume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }

    pub fn volume_mut(&mut self, name: &str) -> Option<&mut LogicalVolume> {
        self.volumes.iter_mut().find(|volume| volume.name == name)
    }

    /// The pool of that name.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        match &self.volume(name)?.kind {
            Kind::Pool(pool) => Some(pool),
            _ => None,
        }
    }

    pub fn pool_mut(&mut self, name: &str) -> Option<&mut Pool> {
        match &mut self.volume_mut(name)?.kind {
            Kind::Pool(pool) => Some(pool),
            _ => None,
        }
    }

    /// The thin volumes of a pool.
    pub fn thin_volumes(&self, pool: &str) -> impl Iterator<Item = (&LogicalVolume, &Thin)> {
        self.volumes
            .iter()
            .filter_map(move |volume| volume.thin().map(|thin| (volume, thin)))
            .filter(move |(_, thin)| thin.pool == pool)
    }

    /// The thick snapshots of a volume.
    pub fn snapshots_of(&self, name: &str) -> impl Iterator<Item = &LogicalVolume> {
        self.volumes.iter().filter(move |volume| volume.origin() == Some(name))
    }

    pub fn free_extents(&self) -> usize {
        (0..self.physical_volumes.len()).map(|index| self.free_on(index).len()).sum()
    }

    /// The first free extents, as `--alloc normal` would take them; `None` when there are too few.
    pub fn allocate(&self, extents: usize) -> Option<Vec<Segment>> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut missing = extents;
        for (index, volume) in self.physical_volumes.iter().enumerate() {
            let taken = self.taken(index);
            for start in (0..volume.extents).filter(|extent| !taken.contains(extent)) {
                if missing == 0 {
                    break;
                }
                missing -= 1;
                match segments.last_mut() {
                    Some(last) if last.physical_volume == index && last.start + last.extents == start => {
                        last.extents += 1;
                    }
                    _ => segments.push(Segment { physical_volume: index, start, extents: 1 }),
                }
            }
        }
        (missing == 0).then_some(segments)
    }

    /// The extents of a physical volume that no logical volume has.
    pub fn free_on(&self, index: usize) -> Vec<usize> {
        let taken = self.taken(index);
        (0..self.physical_volumes[index].extents).filter(|extent| !taken.contains(extent)).collect()
    }

    fn taken(&self, index: usize) -> BTreeSet<usize> {
        let segments = self.volumes.iter().flat_map(|volume| &volume.segments);
        let on_it = segments.filter(|segment| segment.physical_volume == index);
        on_it.flat_map(|segment| segment.start..segment.start + segment.extents).collect()
    }
}

impl LogicalVolume {
    /// Its size as lvm reports it: of a thick snapshot that is its store's.
    pub fn extents(&self) -> usize {
        match &self.kind {
            Kind::Pool(pool) => pool.extents,
            Kind::Thin(thin) => thin.extents,
            _ => self.segments.iter().map(|segment| segment.extents).sum(),
        }
    }

    /// The size of its device.
    pub fn shown_extents(&self) -> usize {
        match &self.kind {
            Kind::Snapshot { extents, .. } => *extents,
            _ => self.extents(),
        }
    }

    pub fn thin(&self) -> Option<&Thin> {
        match &self.kind {
            Kind::Thin(thin) => Some(thin),
            _ => None,
        }
    }

    /// What it is a thick snapshot of.
    pub fn origin(&self) -> Option<&str> {
        match &self.kind {
            Kind::Snapshot { origin, .. } => Some(origin),
            _ => None,
        }
    }

    /// Whether people see it.
    pub fn is_visible(&self) -> bool {
        self.kind != Kind::Hidden
    }

    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|has| has == tag)
    }

    /// Whether the driver made it, whatever it is.
    pub fn is_quarrys(&self) -> bool {
        KINDS.iter().any(|kind| self.has_tag(kind))
    }

    pub fn is_volume(&self) -> bool {
        self.has_tag("quarry.kind=volume")
    }

    pub fn is_deleting(&self) -> bool {
        self.tags.iter().any(|tag| tag.starts_with("quarry.deleting="))
    }
}

/// Device-mapper's name of a volume's device.
pub fn mapper_name(group: &str, volume: &str) -> String {
    format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
}
