//! Volumes of a list that cannot be told apart: nodes that share disks list one logical volume under an id each, and a
//! node that has two of a name lists both under one id. Pure.

use std::collections::HashMap;

use super::orphans::Listed;
use crate::lvm::volume_id::VolumeId;

/// What a list has under which id and which UUID.
#[derive(Debug)]
pub struct Ambiguous<'l> {
    by_id: HashMap<&'l VolumeId, Vec<&'l Listed>>,
    by_uuid: HashMap<&'l str, Vec<&'l VolumeId>>,
}

impl<'l> Ambiguous<'l> {
    /// Of these volumes.
    pub fn of(listed: impl IntoIterator<Item = &'l Listed>) -> Self {
        let (mut by_id, mut by_uuid) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for volume in listed {
            by_id.entry(&volume.id).or_default().push(volume);
            if let Some(uuid) = volume.facts.uuid.as_deref() {
                by_uuid.entry(uuid).or_default().push(&volume.id);
            }
        }
        Self { by_id, by_uuid }
    }

    /// The volume of that id, if there is one.
    pub fn get(&self, id: &VolumeId) -> Option<&'l Listed> {
        self.by_id.get(id)?.first().copied()
    }

    /// The id under which something is listed that may be taken for this volume, or is the same: another one, or its own
    /// where two volumes have it.
    pub fn with(&self, volume: &Listed) -> Option<&'l VolumeId> {
        let same = volume.facts.uuid.as_deref().and_then(|uuid| self.by_uuid.get(uuid));
        if let Some(other) = same.into_iter().flatten().find(|id| **id != &volume.id) {
            return Some(other);
        }
        match self.by_id.get(&volume.id)?.as_slice() {
            [first, _, ..] => Some(&first.id),
            _ => None,
        }
    }
}
