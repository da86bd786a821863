//! From what lies on the single devices to volume groups: which copy of the metadata counts, which
//! device is which physical volume, and what is too unclear to be used. Decides only, reads nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Unusable;
use crate::host::kernel::BlockDevice;
use crate::lvm::metadata::Description;
use crate::lvm::model::{MetadataArea, PhysicalVolume, VolumeGroup};

/// A device that carries a physical volume.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) device: BlockDevice,
    /// The physical volume's UUID.
    pub(super) uuid: String,
    /// Its metadata areas.
    pub(super) areas: Vec<Area>,
}

/// A metadata area.
#[derive(Debug, Clone)]
pub(super) enum Area {
    /// It holds nothing that counts.
    Empty,
    /// It could not be read, and why.
    Unreadable(String),
    /// It holds the metadata of a group.
    Copy { description: Arc<Description>, room: MetadataArea },
}

/// A usable group.
#[derive(Debug, Clone)]
pub(super) struct Assembly {
    pub(super) group: Arc<VolumeGroup>,
    /// What the group was made from; the same pointer means that nothing was committed since.
    pub(super) description: Arc<Description>,
}

/// All that the devices say.
#[derive(Debug, Default)]
pub(super) struct Assembled {
    /// By name.
    pub(super) groups: Vec<Assembly>,
    /// By name.
    pub(super) unusable: Vec<Unusable>,
}

/// A copy of a group's metadata and where it lies.
type Copied<'f> = (&'f Found, &'f Arc<Description>, MetadataArea);

impl Found {
    /// The group copies on it, by the group's UUID.
    pub(super) fn copies(&self) -> impl Iterator<Item = Copied<'_>> {
        self.areas.iter().filter_map(move |area| match area {
            Area::Copy { description, room } => Some((self, description, *room)),
            Area::Empty | Area::Unreadable(_) => None,
        })
    }

    /// Why its metadata cannot be known: an area could not be read, and no other has it.
    pub(super) fn unreadable(&self) -> Option<&str> {
        let reason = self.areas.iter().find_map(|area| match area {
            Area::Unreadable(reason) => Some(reason.as_str()),
            Area::Empty | Area::Copy { .. } => None,
        });
        reason.filter(|_| self.copies().next().is_none())
    }
}

/// Puts the groups together. `before` holds those of an earlier time by UUID, to be used again where
/// nothing changed; `former_group` tells the group that a physical volume belonged to when it could be read.
pub(super) fn assemble(
    found: &[Found],
    before: &HashMap<String, Assembly>,
    former_group: impl Fn(&str) -> Option<String>,
) -> Assembled {
    let mut devices: HashMap<&str, Vec<&Found>> = HashMap::new();
    let mut copies: BTreeMap<&str, Vec<Copied<'_>>> = BTreeMap::new();
    for volume in found {
        devices.entry(&volume.uuid).or_default().push(volume);
        for copy in volume.copies() {
            copies.entry(&copy.1.group.uuid).or_default().push(copy);
        }
    }

    let mut by_name: BTreeMap<String, Vec<Result<Assembly, Unusable>>> = BTreeMap::new();
    for (uuid, copies) in &copies {
        let Some(newest) = newest(copies) else { continue };
        let name = newest.group.name.clone();
        let group = agreement(newest, copies).and_then(|()| group(newest, copies, &devices, before.get(*uuid)));
        let told = || vec![Arc::new(newest.group.clone())];
        by_name.entry(name.clone()).or_default().push(group.map_err(|reason| Unusable { name, reason, told: told() }));
    }

    let mut assembled = Assembled::default();
    let member = |uuid: &str| {
        let newest = copies.values().filter_map(|copies| newest(copies));
        newest.flat_map(|description| &description.group.physical_volumes).any(|volume| volume.uuid == uuid)
    };
    for volume in found {
        if let Some(reason) = volume.unreadable()
            && !member(&volume.uuid)
        {
            let device = volume.device.path.display().to_string();
            let reason = format!("the metadata on {device} cannot be read, and nothing else tells of it: {reason}");
            let name = former_group(&volume.uuid).filter(|name| !by_name.contains_key(name)).unwrap_or(device);
            assembled.unusable.push(Unusable { name, reason, told: Vec::new() });
        }
    }
    for (name, mut bearers) in by_name {
        if bearers.len() > 1 {
            let reason = format!("{} volume groups bear this name; rename one by its UUID (vgrename)", bearers.len());
            let told = bearers.into_iter().flat_map(|bearer| match bearer {
                Ok(assembly) => vec![assembly.group],
                Err(unusable) => unusable.told,
            });
            assembled.unusable.push(Unusable { name, reason, told: told.collect() });
            continue;
        }
        match bearers.pop() {
            Some(Ok(assembly)) => assembled.groups.push(assembly),
            Some(Err(unusable)) => assembled.unusable.push(unusable),
            None => {}
        }
    }
    assembled.unusable.sort_by(|one, other| one.name.cmp(&other.name));
    assembled.unusable.dedup_by(|later, earlier| later.name == earlier.name);
    assembled
}

fn newest<'f>(copies: &[Copied<'f>]) -> Option<&'f Arc<Description>> {
    // The first of equals, so that an unchanged scan chooses the same one again.
    copies.iter().map(|(_, description, _)| *description).min_by_key(|description| u64::MAX - description.group.seqno)
}

/// Whether all copies of the newest state say the same. They do not when the halves of a group were
/// changed apart from each other.
fn agreement(newest: &Arc<Description>, copies: &[Copied<'_>]) -> Result<(), String> {
    for (volume, description, _) in copies {
        let as_new = description.group.seqno == newest.group.seqno;
        if as_new && !Arc::ptr_eq(description, newest) && description != &newest {
            let (device, seqno) = (volume.device.path.display(), newest.group.seqno);
            return Err(format!("the metadata on {device} differs from that on its other devices in change {seqno}"));
        }
    }
    Ok(())
}

fn group(
    newest: &Arc<Description>,
    copies: &[Copied<'_>],
    devices: &HashMap<&str, Vec<&Found>>,
    before: Option<&Assembly>,
) -> Result<Assembly, String> {
    let mut places = Vec::new();
    for volume in &newest.group.physical_volumes {
        let carriers = devices.get(volume.uuid.as_str()).map_or(&[][..], Vec::as_slice);
        if let [one, other, ..] = carriers {
            let (one, other) = (one.device.path.display(), other.device.path.display());
            return Err(format!("its physical volume {} is on {one} and on {other} alike", volume.uuid));
        }
        let marked = newest.marked_missing.contains(&volume.name);
        let there = carriers.first().filter(|carrier| !(marked && is_stale(volume, carrier)));
        places.push(there.map(|carrier| carrier.device.path.clone()));
    }
    let rooms = copies.iter().map(|(_, _, room)| *room);
    let metadata_area = rooms.min_by_key(|room| room.size.saturating_sub(room.used)).unwrap_or_default();

    if let Some(before) = before {
        let same_places = before.group.physical_volumes.iter().map(|volume| &volume.device).eq(&places);
        if Arc::ptr_eq(&before.description, newest) && same_places && before.group.metadata_area == metadata_area {
            return Ok(before.clone());
        }
    }
    let mut group = VolumeGroup { metadata_area, ..newest.group.clone() };
    for (volume, place) in group.physical_volumes.iter_mut().zip(places) {
        volume.device = place;
    }
    Ok(Assembly { group: Arc::new(group), description: Arc::clone(newest) })
}

/// Whether a physical volume that missed a change still counts as missing. Like lvm, which heeds its own
/// mark only where extents are in use and the device has metadata, whose being old shows the absence.
fn is_stale(volume: &PhysicalVolume, carrier: &Found) -> bool {
    volume.free_extents < volume.extents && carrier.areas.iter().any(|area| !matches!(area, Area::Empty))
}

#[cfg(test)]
mod tests;
