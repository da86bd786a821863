//! Where a new volume fits: arithmetic over the groups of a class, shared by `CreateVolume`, growth and
//! `GetCapacity`, so that what capacity promises is what creation does.

use std::sync::Arc;

use crate::config::classes::Class;
use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::model::VolumeGroup;
use crate::lvm::pool::{self, PoolRules};

/// Bytes of metadata text that one more volume may need: a long name, nine long tags, many segments.
const VOLUME_TEXT_BYTES: u64 = 4_096;
/// Bytes of metadata text that growth may need: some more segments.
const GROWTH_TEXT_BYTES: u64 = 1_024;

/// Why a group takes no new volume, or how much it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// So many extents for one volume.
    Extents(u64),
    /// None at all, for this reason.
    None(String),
}

/// A group of a class and the room in it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The group.
    pub group: Arc<VolumeGroup>,
    /// The largest volume it takes now.
    pub room: Room,
}

impl Candidate {
    /// Bytes of the largest volume of the class that fits now.
    pub fn largest_bytes(&self) -> u64 {
        match self.room {
            Room::Extents(extents) => extents * self.group.extent_bytes,
            Room::None(_) => 0,
        }
    }
}

/// The groups of a class, the one with the most room first.
pub fn candidates(view: &View, class: &Class) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = view
        .groups
        .iter()
        .filter(|group| class.uses(&group.name))
        .map(|group| Candidate { group: Arc::clone(group), room: room(group, class) })
        .collect();
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.largest_bytes()));
    candidates
}

/// The largest volume of the class that the group takes now.
pub fn room(group: &VolumeGroup, class: &Class) -> Room {
    let largest = || class.largest_extents(group).map_or_else(Room::None, Room::Extents);
    why_closed_to_new(group).map_or_else(largest, Room::None)
}

/// The most that a volume of the class, which may be gone, can grow in the group now: in that pool, or by extents of the
/// group.
pub fn room_to_grow(group: &VolumeGroup, class: Option<&Class>, pool: Option<&PoolRules>) -> Room {
    if let Some(reason) = why_closed(group, GROWTH_TEXT_BYTES) {
        return Room::None(reason);
    }
    let usable = class.map_or_else(|| group.free_extents(), |class| class.usable_extents(group));
    match pool {
        Some(rules) => pool::room(group, rules, usable).map_or_else(Room::None, Room::Extents),
        None => Room::Extents(usable),
    }
}

/// Why the group takes no new volume or snapshot, whatever room its disks have.
pub fn why_closed_to_new(group: &VolumeGroup) -> Option<String> {
    why_closed(group, VOLUME_TEXT_BYTES)
}

fn why_closed(group: &VolumeGroup, text_bytes: u64) -> Option<String> {
    if let Some(reason) = why_unwritable(group) {
        return Some(reason);
    }
    let is_full = metadata_free(group) < text_bytes;
    is_full.then(|| {
        String::from("its metadata area is full; remove volumes or make the group anew with a larger --metadatasize")
    })
}

/// Bytes of metadata text that can still be added. A commit holds the old and the new text at once.
pub fn metadata_free(group: &VolumeGroup) -> u64 {
    (group.metadata_area.size / 2).saturating_sub(group.metadata_area.used)
}

/// Why the group is not this machine's to use: lvm would not even activate its volumes.
pub fn why_not_ours(group: &VolumeGroup) -> Option<String> {
    if group.has_status("EXPORTED") {
        return Some(String::from("it is exported; run vgimport to use it here"));
    }
    if let Some(system_id) = group.system_id.as_deref() {
        return Some(format!("it belongs to the system {system_id:?} (lvmsystemid(7))"));
    }
    let lock_type = group.lock_type.as_deref().filter(|lock| !lock.is_empty() && *lock != "none")?;
    Some(format!("it is shared ({lock_type}); only local groups are supported"))
}

/// Why lvm would refuse every change of the group.
pub fn why_unwritable(group: &VolumeGroup) -> Option<String> {
    if let Some(reason) = why_not_ours(group) {
        return Some(reason);
    }
    // lvm writes the second word where a system id or a lock keeps older versions of it from writing.
    if !group.has_status("WRITE") && !group.has_status("WRITE_LOCKED") {
        return Some(String::from(
            "its metadata is marked read-only; vgcfgrestore can put back metadata whose status has WRITE",
        ));
    }
    let missing: Vec<&str> = group
        .physical_volumes
        .iter()
        .filter(|volume| volume.device.is_none())
        .map(|volume| volume.uuid.as_str())
        .collect();
    (!missing.is_empty()).then(|| format!("physical volumes are missing: {}", missing.join(", ")))
}

/// That the group takes changes. lvm would refuse every one; this says why in words that help.
pub fn ensure_writable(group: &VolumeGroup) -> Result<()> {
    let name = &group.name;
    match why_unwritable(group) {
        None => Ok(()),
        Some(reason) if group.is_partial() => {
            Err(Error::Unavailable { problem: format!("volume group {name} cannot be changed now: {reason}") })
        }
        Some(reason) => Err(Error::precondition(format!("volume group {name} cannot be changed: {reason}"))),
    }
}

/// A sentence on why none of the groups takes a volume of so many bytes.
pub fn why_no_room(view: &View, class: &Class, candidates: &[Candidate], bytes: u64) -> String {
    let names: Vec<String> = class.volume_groups.iter().map(ToString::to_string).collect();
    let unusable = view.unusable.iter().filter(|unusable| class.uses(&unusable.name));
    let mut reasons: Vec<String> = candidates
        .iter()
        .map(|candidate| match &candidate.room {
            Room::None(reason) => format!("volume group {}: {reason}", candidate.group.name),
            Room::Extents(_) => format!(
                "volume group {} takes at most {} bytes (reserve {})",
                candidate.group.name,
                candidate.largest_bytes(),
                class.reserve
            ),
        })
        .collect();
    reasons.extend(unusable.map(|unusable| format!("volume group {}: {}", unusable.name, unusable.reason)));
    if reasons.is_empty() {
        reasons.push(format!("there is no volume group {} here", names.join(" or ")));
    }
    format!("{bytes} bytes asked for in class {}; {}", class.name, reasons.join("; "))
}
