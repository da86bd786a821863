//! A volume group as the fake of lvm keeps it, and what lvm's commands do to it.

use std::collections::BTreeSet;

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
    pub segments: Vec<Segment>,
}

/// Extents in a row on one physical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub physical_volume: usize,
    pub start: usize,
    pub extents: usize,
}

impl Group {
    pub fn volume(&self, name: &str) -> Option<&LogicalVolume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }

    pub fn volume_mut(&mut self, name: &str) -> Option<&mut LogicalVolume> {
        self.volumes.iter_mut().find(|volume| volume.name == name)
    }

    pub fn free_extents(&self) -> usize {
        let all: usize = self.physical_volumes.iter().map(|volume| volume.extents).sum();
        all - self.volumes.iter().map(LogicalVolume::extents).sum::<usize>()
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
    pub fn extents(&self) -> usize {
        self.segments.iter().map(|segment| segment.extents).sum()
    }

    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|has| has == tag)
    }

    pub fn is_quarrys(&self) -> bool {
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
