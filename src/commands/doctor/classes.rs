//! The classes, and the volume groups that they name.

use super::finding::Finding;
use crate::commands::words::size;
use crate::config::classes::{Class, Classes};
use crate::config::flags::{ClassesFlags, ClassesSource};
use crate::host::check_options;
use crate::lvm::groups::View;
use crate::lvm::model::VolumeGroup;
use crate::node::placement::{Room, metadata_free, room, why_unwritable};

const AREA: &str = "classes";
const GROUPS: &str = "groups";
/// Room for metadata below which an admin should know: some dozens of volumes.
const LITTLE_METADATA_BYTES: u64 = 64 << 10;
const MORE_METADATA: &str = "delete volumes, or see docs/operations.md, \"The metadata area is full\"";

/// The classes as a node with these flags would have them.
pub(super) fn read(flags: &ClassesFlags) -> (Option<Classes>, Vec<Finding>) {
    let advice = "correct it; quarry check-config FILE says the same without a node";
    let (classes, finding) = match flags.source() {
        Err(_) => {
            let advice = "give --classes or --volume-group as the node has it, or set QUARRY_CLASSES";
            (None, Finding::warn(AREA, "none named, so no volume group was judged", advice))
        }
        Ok(ClassesSource::VolumeGroups(groups)) => match Classes::single(groups) {
            Ok(classes) => {
                let found = format!("one class, {}, of {}", classes.names(), groups.join(", "));
                (Some(classes), Finding::ok(AREA, found))
            }
            Err(problem) => (None, Finding::fail(AREA, problem, "name a volume group or a glob")),
        },
        Ok(ClassesSource::File(file)) => match Classes::read(file, check_options) {
            Ok(classes) => {
                let found = format!("{}: {}", file.display(), classes.names());
                (Some(classes), Finding::ok(AREA, found))
            }
            // An error without a line names the file itself.
            Err(error) if error.line.is_none() => (None, Finding::fail(AREA, error.to_string(), advice)),
            Err(error) => (None, Finding::fail(AREA, format!("{}: {error}", file.display()), advice)),
        },
    };
    (classes, vec![finding])
}

/// The groups that the classes name: there, usable, with room.
pub(super) fn groups(classes: &Classes, view: &View) -> Vec<Finding> {
    let mut findings = Vec::new();
    for class in classes {
        findings.extend(class.volume_groups.iter().filter_map(|pattern| {
            let is_there = view.groups.iter().any(|group| pattern.matches(&group.name))
                || view.unusable.iter().any(|unusable| pattern.matches(&unusable.name));
            (!is_there).then(|| {
                let found = format!("class {}: no volume group {pattern} here", class.name);
                let advice = "make one (pvcreate, vgcreate) or attach its disks, or name another";
                Finding::lacking(!pattern.is_glob(), GROUPS, found, advice)
            })
        }));
    }
    for group in view.groups.iter().filter(|group| classes.use_group(&group.name)) {
        let users: Vec<&Class> = classes.iter().filter(|class| class.uses(&group.name)).collect();
        findings.extend(group_findings(group, &users));
    }
    findings
}

fn group_findings(group: &VolumeGroup, classes: &[&Class]) -> Vec<Finding> {
    let name = &group.name;
    if let Some(reason) = why_unwritable(group) {
        let advice = if group.is_partial() {
            "attach the disks, or see docs/operations.md, \"A disk is missing\""
        } else {
            "see lvm(8) and vgchange(8)"
        };
        return vec![Finding::fail(GROUPS, format!("{name} takes no changes: {reason}"), advice)];
    }
    let bytes = |extents: u64| size(extents.saturating_mul(group.extent_bytes));
    let sizes = format!("{name}: {} of {} free", bytes(group.free_extents()), bytes(group.extents()));
    let rooms = classes.iter().map(|class| match room(group, class) {
        Room::Extents(extents) => (extents, format!("largest new volume of class {}: {}", class.name, bytes(extents))),
        Room::None(reason) => (0, format!("no new volume of class {}: {reason}", class.name)),
    });
    let (largest, rooms): (Vec<u64>, Vec<String>) = rooms.unzip();
    let found = format!("{sizes}; {}", rooms.join(", "));
    let metadata = metadata_finding(group);
    if largest.iter().any(|extents| *extents > 0) {
        return vec![Finding::ok(GROUPS, found), metadata];
    }
    let has_extents = classes.iter().any(|class| class.largest_extents(group).is_ok_and(|extents| extents > 0));
    let more_room = "do what is said of a pool, else vgextend it, delete volumes, or lower the reserve";
    let advice = if has_extents { MORE_METADATA } else { more_room };
    vec![Finding::warn(GROUPS, found, advice), metadata]
}

fn metadata_finding(group: &VolumeGroup) -> Finding {
    let free = metadata_free(group);
    let found = format!("{}: {} of metadata can still be added", group.name, size(free));
    if free >= LITTLE_METADATA_BYTES { Finding::ok(GROUPS, found) } else { Finding::warn(GROUPS, found, MORE_METADATA) }
}

#[cfg(test)]
mod tests;
