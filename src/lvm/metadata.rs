//! From the text of a volume group to its model.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::label::SECTOR;
use super::model::{LogicalVolume, MetadataArea, PhysicalVolume, Pool, ThinVolume, VolumeGroup};
use super::text::{Node, Section, TextError, Value, parse};

/// A group as its text describes it: no physical volume has a device yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The group.
    pub group: VolumeGroup,
    /// The names (`pv0`) of physical volumes that were missing when lvm wrote the text. The mark stays until
    /// `vgextend --restoremissing`, even if they are there: their content may be stale.
    pub marked_missing: BTreeSet<String>,
}

/// Why a text describes no volume group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// It breaks the rules of the format.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Something is missing, or not what it should be.
    #[error("{place}: {problem}")]
    Malformed {
        /// The section, as a path.
        place: String,
        /// What is wrong there.
        problem: String,
    },
}

/// Understands a whole text.
pub fn describe(text: &[u8]) -> Result<Description, MetadataError> {
    // Names and tags are ASCII; only comments and hints could hold anything else.
    let root = parse(&String::from_utf8_lossy(text))?;
    let (name, section) = root.sections().next().ok_or_else(|| malformed("the text", "has no section of a group"))?;
    let place = Place { path: name.to_owned(), section };
    let extent_bytes = place.number("extent_size")?.checked_mul(SECTOR as u64).filter(|bytes| *bytes > 0);
    let (mut physical_volumes, marked_missing) = physical_volumes(&place)?;
    let logical_volumes = logical_volumes(&place, &mut physical_volumes)?;
    let group = VolumeGroup {
        name: name.to_owned(),
        uuid: place.string("id")?.to_owned(),
        seqno: place.number("seqno")?,
        extent_bytes: extent_bytes.ok_or_else(|| place.malformed("extent_size is not a size"))?,
        status: place.status(),
        system_id: place.string("system_id").ok().filter(|id| !id.is_empty()).map(str::to_owned),
        lock_type: place.string("lock_type").ok().map(str::to_owned),
        tags: place.words("tags"),
        physical_volumes,
        logical_volumes: logical_volumes.into_iter().map(Arc::new).collect(),
        metadata_area: MetadataArea::default(),
    };
    Ok(Description { group, marked_missing })
}

fn physical_volumes(group: &Place<'_>) -> Result<(Vec<PhysicalVolume>, BTreeSet<String>), MetadataError> {
    let mut volumes = Vec::new();
    let mut missing = BTreeSet::new();
    for place in group.children("physical_volumes") {
        let status = place.status();
        if status.iter().any(|word| word == "MISSING") {
            missing.insert(place.name().to_owned());
        }
        let extents = place.number("pe_count")?;
        volumes.push(PhysicalVolume {
            name: place.name().to_owned(),
            uuid: place.string("id")?.to_owned(),
            device: None,
            extents,
            free_extents: extents,
            allocatable: status.iter().any(|word| word == "ALLOCATABLE"),
        });
    }
    Ok((volumes, missing))
}

/// The logical volumes; takes what their segments lie on from the free extents of `on`.
fn logical_volumes(group: &Place<'_>, on: &mut [PhysicalVolume]) -> Result<Vec<LogicalVolume>, MetadataError> {
    let index: HashMap<String, usize> =
        on.iter().enumerate().map(|(index, volume)| (volume.name.clone(), index)).collect();
    let mut volumes = Vec::new();
    let mut stores: Vec<(&str, &str)> = Vec::new();
    let mut unsent: Vec<(String, &str)> = Vec::new();
    for place in group.children("logical_volumes") {
        let mut volume = LogicalVolume {
            name: place.name().to_owned(),
            uuid: place.string("id")?.to_owned(),
            extents: 0,
            created: place.number("creation_time").ok(),
            status: place.status(),
            tags: place.words("tags"),
            segment_types: Vec::new(),
            on_physical_volumes: Vec::new(),
            snapshot_of: Vec::new(),
            pool: None,
            thin: None,
        };
        for segment in place.all_children() {
            let extents = segment.number("extent_count")?;
            let sum = volume.extents.checked_add(extents);
            volume.extents = sum.ok_or_else(|| place.malformed("its size overflows"))?;
            // What follows a plus sign are features that older versions must not overlook.
            let kind = segment.string("type")?.split('+').next().unwrap_or_default();
            volume.segment_types.push(kind.to_owned());
            match kind {
                "thin-pool" => {
                    volume.pool = Some(thin_pool(&segment, &volume.status)?);
                    // lvm commits what it is going to tell the kernel (`message1 { create = "a" }`), and that it has.
                    let messages = segment.all_children();
                    unsent.extend(messages.filter_map(|told| Some((volume.name.clone(), told.string("create").ok()?))));
                }
                "thin" => volume.thin = Some(thin_volume(&segment)?),
                _ => {}
            }
            // A hidden volume ties a thick snapshot and its origin together; thin ones stay when theirs goes.
            let store = segment.string("cow_store").or_else(|_| segment.string("merging_store"));
            if let (Ok(store), Ok(origin)) = (store, segment.string("origin")) {
                stores.push((store, origin));
            }
            volume.snapshot_of.extend(segment.string("external_origin").ok().map(str::to_owned));
            for (physical, taken) in areas(&segment, extents, &index) {
                let Some(physical) = on.get_mut(physical) else { continue };
                physical.free_extents = physical.free_extents.saturating_sub(taken);
                if !volume.on_physical_volumes.contains(&physical.name) {
                    volume.on_physical_volumes.push(physical.name.clone());
                }
            }
        }
        volumes.push(volume);
    }
    for (store, origin) in stores {
        if let Some(volume) = volumes.iter_mut().find(|volume| volume.name == store) {
            volume.snapshot_of.push(origin.to_owned());
        }
    }
    for (pool, name) in unsent {
        let thin = volumes.iter_mut().filter(|volume| volume.name == name).find_map(|volume| volume.thin.as_mut());
        if let Some(thin) = thin.filter(|thin| thin.pool == pool) {
            thin.is_unsent = true;
        }
    }
    // Lists are by name, and what is in order already is sorted in one pass.
    volumes.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(volumes)
}

fn thin_pool(segment: &Place<'_>, status: &[String]) -> Result<Pool, MetadataError> {
    let chunk_bytes = segment.number("chunk_size")?.checked_mul(SECTOR as u64).filter(|bytes| *bytes > 0);
    Ok(Pool {
        metadata: segment.string("metadata")?.to_owned(),
        data: segment.string("pool")?.to_owned(),
        chunk_bytes: chunk_bytes.ok_or_else(|| segment.malformed("chunk_size is not a size"))?,
        zeroes: segment.number("zero_new_blocks").is_ok_and(|zeroes| zeroes != 0),
        fails_when_full: status.iter().any(|word| word == "ERROR_WHEN_FULL"),
        transaction_id: segment.number("transaction_id")?,
        is_pending: segment.all_children().any(|child| child.name().starts_with("message")),
    })
}

fn thin_volume(segment: &Place<'_>) -> Result<ThinVolume, MetadataError> {
    Ok(ThinVolume {
        pool: segment.string("thin_pool")?.to_owned(),
        device_id: segment.number("device_id")?,
        origin: segment.string("origin").ok().map(str::to_owned),
        is_unsent: false,
    })
}

/// The physical volumes that a segment takes extents from, and how many. Works for types not known
/// here: every list in which a physical volume's name is followed by an offset names such an area, and
/// only `stripes` share the segment's extents among them. Like lvm, a name that both a physical and a
/// logical volume bear means the physical one.
fn areas(segment: &Place<'_>, extents: u64, index: &HashMap<String, usize>) -> Vec<(usize, u64)> {
    let mut areas = Vec::new();
    for (key, list) in segment.lists() {
        let pairs: Vec<_> = list
            .windows(2)
            .filter_map(|pair| match pair {
                [Value::String(name), Value::Integer(_)] => Some(name),
                _ => None,
            })
            .collect();
        let sharing = if key == "stripes" { u64::try_from(pairs.len()).unwrap_or(u64::MAX).max(1) } else { 1 };
        let taken = extents.div_ceil(sharing);
        areas.extend(pairs.into_iter().filter_map(|name| index.get(name)).map(|physical| (*physical, taken)));
    }
    areas
}

/// A section and the way to it, so that errors can say where.
struct Place<'t> {
    path: String,
    section: &'t Section,
}

impl<'t> Place<'t> {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn all_children(&self) -> impl Iterator<Item = Self> {
        self.section.sections().map(|(name, section)| Self { path: format!("{}/{name}", self.path), section })
    }

    /// The sections in the section of that name; none where it is absent.
    fn children(&self, name: &str) -> Vec<Self> {
        let parent = self.section.section(name);
        let parent = parent.map(|section| Self { path: format!("{}/{name}", self.path), section });
        parent.iter().flat_map(Self::all_children).collect()
    }

    fn number(&self, key: &str) -> Result<u64, MetadataError> {
        match self.section.value(key) {
            Some(Value::Integer(number)) => {
                u64::try_from(*number).map_err(|_| self.malformed(format!("{key} is negative: {number}")))
            }
            Some(_) => Err(self.malformed(format!("{key} is not a number"))),
            None => Err(self.malformed(format!("{key} is missing"))),
        }
    }

    fn string(&self, key: &str) -> Result<&'t str, MetadataError> {
        match self.section.value(key) {
            Some(Value::String(string)) => Ok(string),
            Some(_) => Err(self.malformed(format!("{key} is not a string"))),
            None => Err(self.malformed(format!("{key} is missing"))),
        }
    }

    /// The strings of a list.
    fn words(&self, key: &str) -> Vec<String> {
        let lists = self.lists().filter(|(name, _)| *name == key);
        let words = lists.flat_map(|(_, list)| list).filter_map(|value| match value {
            Value::String(word) => Some(word.clone()),
            _ => None,
        });
        words.collect()
    }

    /// The words of `status` and of `flags`: which of the two holds a word depends on lvm's version.
    fn status(&self) -> Vec<String> {
        let mut words = self.words("status");
        words.extend(self.words("flags"));
        words
    }

    fn lists(&self) -> impl Iterator<Item = (&'t str, &'t [Value])> {
        self.section.entries().filter_map(|(key, node)| match node {
            Node::Value(Value::List(list)) => Some((key, list.as_slice())),
            _ => None,
        })
    }

    fn malformed(&self, problem: impl Into<String>) -> MetadataError {
        malformed(&self.path, problem)
    }
}

fn malformed(place: &str, problem: impl Into<String>) -> MetadataError {
    MetadataError::Malformed { place: place.to_owned(), problem: problem.into() }
}

#[cfg(test)]
mod tests;
