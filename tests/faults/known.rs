//! What the driver has answered, and what a power cut must have left of it.

use std::collections::BTreeMap;

use quarry::lvm::names::{member_name, snapshot_name};

use crate::call::{Call, From, Use};
use crate::disk_format::EXTENT;
use crate::lvm::{Group, LogicalVolume};
use crate::machine::Machine;
use crate::observation::{Text, file_system_on, text_on};

/// What was answered OK.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    /// The extents of each volume.
    pub(crate) volumes: BTreeMap<&'static str, usize>,
    pub(crate) staged: BTreeMap<&'static str, Use>,
    pub(crate) published: Vec<(&'static str, &'static str, Use)>,
    /// What volumes hold.
    texts: BTreeMap<&'static str, Text>,
    /// Snapshots, and what their volumes held then.
    snapshots: BTreeMap<&'static str, Option<Text>>,
    /// Group snapshots by the logical volumes of their snapshots, and what the volumes held then.
    groups: BTreeMap<&'static str, BTreeMap<String, Option<Text>>>,
    /// The deleted ones by logical name and number, too: their names may be taken again.
    deleted: Vec<(String, u64)>,
    numbers: BTreeMap<String, u64>,
}

impl Known {
    /// What is asked for may be done, answered or not.
    pub(crate) fn note_asked(&mut self, call: Call) {
        if let Call::DeleteSnapshot(name) = call {
            self.snapshots.remove(name);
        }
        if let Call::DeleteGroupSnapshot(name) = call {
            self.groups.remove(name);
        }
        if let Call::DeleteForgotten(name) = call {
            self.staged.remove(name);
        }
    }

    pub(crate) fn note(&mut self, call: Call, machine: &Machine) {
        match call {
            Call::Create(name, _, extents) | Call::Grow(name, extents) | Call::GrowMounted(name, _, extents) => {
                self.note_volume(name, extents, machine);
            }
            Call::Copy(name, _, extents, from) => {
                self.note_volume(name, extents, machine);
                let text = match from {
                    From::Snapshot(name) => self.snapshots[name],
                    From::Volume(name) => self.texts.get(name).copied(),
                };
                self.texts.extend(text.map(|text| (name, text)));
            }
            Call::Snapshot(name, volume) => {
                self.snapshots.insert(name, self.texts.get(volume).copied());
                self.note_number(snapshot_name(name), machine);
            }
            Call::GroupSnapshot(name, volumes) => {
                let member = |volume: &&'static str| (member_name(name, volume), self.texts.get(volume).copied());
                self.groups.insert(name, volumes.iter().map(member).collect());
                self.assert_groups_are_whole(machine);
                let running =
                    |volume: &&str| machine.minor("vg", volume).is_none_or(|minor| !machine.devices[&minor].suspended);
                assert!(volumes.iter().all(running), "a volume of group snapshot {name} is left suspended");
            }
            Call::DeleteGroupSnapshot(name) => {
                let is_of_it = |tag: &String| *tag == format!("quarry.group={name}");
                let mut volumes = machine.groups.iter().flat_map(|group| &group.volumes);
                let left = volumes.find(|volume| volume.tags.iter().any(is_of_it));
                assert!(left.is_none(), "of group snapshot {name} something is left: {left:?}");
            }
            Call::Stage(name, how) => drop(self.staged.insert(name, how)),
            Call::Unstage(name) => drop(self.staged.remove(name)),
            Call::Publish(name, target, how) => {
                self.published.retain(|(_, other, _)| *other != target);
                self.published.push((name, target, how));
            }
            Call::Unpublish(_, target) => self.published.retain(|(_, other, _)| *other != target),
            Call::Write(target) => self.note_text(target, Text::First),
            Call::Overwrite(target) => self.note_text(target, Text::Later),
            Call::Delete(name) | Call::DeleteForgotten(name) => {
                self.volumes.remove(name);
                self.texts.remove(name);
                self.note_deleted(name);
            }
            Call::DeleteSnapshot(name) => {
                self.snapshots.remove(name);
                self.note_deleted(&snapshot_name(name));
            }
            // What they held is lost.
            Call::Overfill(..) => self.snapshots.clear(),
            Call::CreateTooLarge(..)
            | Call::CopyTooLarge(..)
            | Call::DeleteRefused(_)
            | Call::Fill(..)
            | Call::FillMetadata(..) => {}
        }
    }

    /// What was answered of groups is all of them, and holds what the volumes held.
    fn assert_groups_are_whole(&self, machine: &Machine) {
        for (name, text) in self.groups.values().flatten() {
            let (group, member) =
                find(machine, name).unwrap_or_else(|| panic!("{name} of a group snapshot is not there"));
            assert!(member.has_tag("quarry.kind=snapshot"), "{name} of a group snapshot is not whole");
            assert_eq!(text_on(machine, &group.name, member), *text, "{name} of a group snapshot holds something else");
        }
    }

    fn note_volume(&mut self, name: &'static str, extents: usize, machine: &Machine) {
        let size = self.volumes.entry(name).or_default();
        *size = extents.max(*size);
        self.note_number(name.to_owned(), machine);
    }

    fn note_number(&mut self, logical_name: String, machine: &Machine) {
        let number = find(machine, &logical_name).map(|(_, volume)| volume.number);
        self.numbers.extend(number.map(|number| (logical_name, number)));
    }

    fn note_deleted(&mut self, logical_name: &str) {
        self.deleted.extend(self.numbers.remove_entry(logical_name));
    }

    fn note_text(&mut self, target: &str, text: Text) {
        let shown = self.published.iter().find(|(_, other, _)| *other == target);
        self.texts.extend(shown.map(|(name, _, _)| (*name, text)));
    }

    /// What was answered OK is there.
    pub(crate) fn assert_kept(&self, machine: &Machine) {
        for (name, extents) in &self.volumes {
            let (group, volume) = find(machine, name).unwrap_or_else(|| panic!("{name} was lost by the power cut"));
            assert!(volume.extents() >= *extents, "the growth of {name} was lost by the power cut");
            if self.staged.contains_key(name) {
                assert!(!volume.has_tag("quarry.fresh"), "{name} was staged and is fresh again after the power cut");
            }
            let incomplete = ["quarry.unfinished", "quarry.ungrown"].into_iter().find(|tag| volume.has_tag(tag));
            assert_eq!(incomplete, None, "{name} was whole and is not after the power cut");
            if let Some(text) = self.texts.get(name) {
                let found = text_on(machine, &group.name, volume);
                assert_eq!(found, Some(*text), "the data on {name} was lost by the power cut");
            }
            if volume.has_tag("quarry.fs=ext4") {
                let bytes = file_system_on(machine, &group.name, volume);
                assert!(bytes.is_some_and(|bytes| bytes <= volume.extents() * EXTENT), "no good file system on {name}");
            }
        }
        for (name, text) in &self.snapshots {
            let found = find(machine, &snapshot_name(name));
            let (group, snapshot) = found.unwrap_or_else(|| panic!("snapshot {name} was lost by the power cut"));
            let is_one = snapshot.thin().is_some() || snapshot.origin().is_some();
            assert!(is_one, "snapshot {name} is none after the power cut");
            let found = text_on(machine, &group.name, snapshot);
            assert_eq!(found, *text, "snapshot {name} holds something else after the power cut");
        }
        self.assert_groups_are_whole(machine);
        for (name, number) in &self.deleted {
            let left = find(machine, name).filter(|(_, volume)| volume.number == *number);
            let is_deleted = left.is_none_or(|(_, volume)| volume.is_deleting());
            assert!(is_deleted, "{name} was deleted and is back after the power cut");
        }
    }
}

fn find<'m>(machine: &'m Machine, name: &str) -> Option<(&'m Group, &'m LogicalVolume)> {
    machine.groups.iter().find_map(|group| group.volume(name).map(|volume| (group, volume)))
}
