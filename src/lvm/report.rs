//! What lvm itself says, to judge what was read without it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::groups::{Groups, View};
use super::model::{LogicalVolume, PhysicalVolume, VolumeGroup};
use crate::error::Result;
use crate::host::commands::{Command, CommandError};

/// How often both are read again because the groups changed in between.
const ATTEMPTS: u32 = 3;

/// The columns; those of each report must be the fields of the structure of that name below.
const COLUMNS: [(&str, &str); 3] = [
    ("vg", "vg_name,vg_uuid,vg_seqno,vg_extent_size,vg_extent_count,vg_free_count,vg_tags"),
    ("pv", "pv_uuid,pv_pe_count,pv_pe_alloc_count,pv_allocatable,pv_missing"),
    ("lv", "lv_name,lv_uuid,lv_size,lv_tags"),
];

/// Reports that only cost time: lvm prints them all, but a selection that nothing meets leaves them empty.
const LEFT_OUT: [(&str, &str, &str); 2] =
    [("pvseg", "pvseg_start", "pvseg_size=0"), ("seg", "seg_start", "seg_size=0")];

/// A group with its volumes in the terms in which lvm reports them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedGroup {
    name: String,
    uuid: String,
    /// Sequence number, bytes of an extent, extents, free extents.
    numbers: [u64; 4],
    tags: BTreeSet<String>,
    /// By UUID: extents, extents in use, allocatable, missing.
    physical_volumes: BTreeMap<String, (u64, u64, bool, bool)>,
    /// By UUID: name, bytes, tags.
    logical_volumes: BTreeMap<String, (String, u64, BTreeSet<String>)>,
}

#[derive(Deserialize)]
struct FullReport {
    report: Vec<GroupReport>,
}

#[derive(Deserialize)]
struct GroupReport {
    #[serde(default)]
    vg: Vec<VgRow>,
    #[serde(default)]
    pv: Vec<PvRow>,
    #[serde(default)]
    lv: Vec<LvRow>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "named like the columns")]
struct VgRow {
    vg_name: String,
    vg_uuid: String,
    vg_seqno: String,
    vg_extent_size: String,
    vg_extent_count: String,
    vg_free_count: String,
    vg_tags: String,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "named like the columns")]
struct PvRow {
    pv_uuid: String,
    pv_pe_count: String,
    pv_pe_alloc_count: String,
    pv_allocatable: String,
    pv_missing: String,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "named like the columns")]
struct LvRow {
    lv_name: String,
    lv_uuid: String,
    lv_size: String,
    lv_tags: String,
}

/// The command whose output [`parse`] understands. It takes no lock.
pub fn command() -> Command {
    let mut command = Command::new("lvm").arguments(["fullreport", "--all", "--readonly", "--foreign", "--shared"]);
    command = command.arguments(["--reportformat", "json", "--units", "b", "--nosuffix"]);
    for (report, columns) in COLUMNS {
        command = command.arguments(["--configreport", report, "-o", columns]);
    }
    for (report, column, selection) in LEFT_OUT {
        command = command.arguments(["--configreport", report, "-o", column, "-S", selection]);
    }
    command
}

/// Understands lvm's output; the groups come by name.
pub fn parse(output: &[u8]) -> Result<Vec<ReportedGroup>, String> {
    let report: FullReport = from_json(output)?;
    let mut groups = Vec::new();
    for GroupReport { vg, pv, lv } in report.report {
        // Physical volumes of no group are reported in a group without rows or without a name.
        let Some(group) = vg.into_iter().next().filter(|group| !group.vg_name.is_empty()) else { continue };
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        let mut physical_volumes = BTreeMap::new();
        for row in pv {
            let numbers = (number(&row.pv_pe_count)?, number(&row.pv_pe_alloc_count)?);
            let flags = (!row.pv_allocatable.is_empty(), !row.pv_missing.is_empty());
            physical_volumes.insert(row.pv_uuid, (numbers.0, numbers.1, flags.0, flags.1));
        }
        let mut logical_volumes = BTreeMap::new();
        for row in lv {
            // Hidden volumes are reported in brackets.
            let name = row.lv_name.trim_matches(['[', ']']).to_owned();
            logical_volumes.insert(row.lv_uuid, (name, number(&row.lv_size)?, tags(&row.lv_tags)));
        }
        let [seqno, extent_bytes] = [number(&group.vg_seqno)?, number(&group.vg_extent_size)?];
        groups.push(ReportedGroup {
            name: group.vg_name,
            uuid: group.vg_uuid,
            numbers: [seqno, extent_bytes, number(&group.vg_extent_count)?, number(&group.vg_free_count)?],
            tags: tags(&group.vg_tags),
            physical_volumes,
            logical_volumes,
        });
    }
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(groups)
}

fn from_json<T: DeserializeOwned>(output: &[u8]) -> Result<T, String> {
    serde_json::from_slice(output).map_err(|error| error.to_string())
}

fn tags(column: &str) -> BTreeSet<String> {
    column.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

impl Groups {
    /// What lvm says against what was read without it, as sentences; none when they agree. Starts lvm, so
    /// this is for the start of the driver and for people, not for requests.
    pub async fn compare(&self) -> Result<Vec<String>> {
        let command = command();
        let mut found = Vec::new();
        for _ in 0..ATTEMPTS {
            let before = self.read().await?;
            let output = self.commands.run_ok(&command).await?;
            let nonsense = |problem| CommandError::Nonsense { command: command.to_string(), problem };
            let reported = parse(&output.stdout).map_err(nonsense)?;
            found = differences(&before, &reported);
            if found.is_empty() || unchanged(&before, &*self.read().await?) {
                break;
            }
        }
        Ok(found)
    }
}

fn unchanged(before: &View, after: &View) -> bool {
    before.groups == after.groups && before.unusable == after.unusable
}

/// The differences between what was read natively and what lvm reported, as sentences.
pub fn differences(view: &View, reported: &[ReportedGroup]) -> Vec<String> {
    let mut sentences = Vec::new();
    for lvm in reported {
        match (view.group(&lvm.name), view.why_unusable(&lvm.name)) {
            (Some(group), _) => compare_group(group, lvm, &mut sentences),
            (None, Some(reason)) => {
                sentences.push(format!("lvm reports volume group {}, but it cannot be used: {reason}", lvm.name));
            }
            (None, None) => sentences.push(format!("lvm reports volume group {}, but it was not found", lvm.name)),
        }
    }
    for group in &view.groups {
        if !reported.iter().any(|lvm| lvm.name == group.name) {
            sentences.push(format!("volume group {} was found, but lvm does not report it", group.name));
        }
    }
    sentences
}

fn compare_group(group: &VolumeGroup, lvm: &ReportedGroup, sentences: &mut Vec<String>) {
    let name = &group.name;
    let mut differ = |what: &str, lvm: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
        sentences.push(format!("volume group {name}: lvm reports {what} {lvm:?}, but {found:?} was found"));
    };
    if lvm.uuid != group.uuid {
        differ("the UUID", &lvm.uuid, &group.uuid);
    }
    let free = group.physical_volumes.iter().map(|volume| volume.free_extents).sum();
    let numbers = [group.seqno, group.extent_bytes, group.extents(), free];
    let names =
        ["the sequence number", "the bytes of an extent", "the number of extents", "the number of free extents"];
    for ((what, lvm), found) in names.into_iter().zip(lvm.numbers).zip(numbers) {
        if lvm != found {
            differ(what, &lvm, &found);
        }
    }
    let tags: BTreeSet<_> = group.tags.iter().cloned().collect();
    if lvm.tags != tags {
        differ("the tags", &lvm.tags, &tags);
    }
    let physical: BTreeMap<_, _> = group.physical_volumes.iter().map(physical).collect();
    entries("physical volume", &lvm.physical_volumes, &physical, &mut differ);
    // lvm shows the pseudo-volume that ties a snapshot to its origin only as a property of the two.
    let shown = group.logical_volumes.iter().filter(|volume| volume.segment_types != ["snapshot"]);
    let logical: BTreeMap<_, _> = shown.map(|volume| logical(volume, group)).collect();
    entries("logical volume", &lvm.logical_volumes, &logical, &mut differ);
}

fn physical(volume: &PhysicalVolume) -> (String, (u64, u64, bool, bool)) {
    let used = volume.extents - volume.free_extents.min(volume.extents);
    (volume.uuid.clone(), (volume.extents, used, volume.allocatable, volume.device.is_none()))
}

fn logical(volume: &LogicalVolume, group: &VolumeGroup) -> (String, (String, u64, BTreeSet<String>)) {
    let bytes = volume.extents.saturating_mul(group.extent_bytes);
    (volume.uuid.clone(), (volume.name.clone(), bytes, volume.tags.iter().cloned().collect()))
}

fn entries<T: PartialEq + std::fmt::Debug>(
    kind: &str,
    lvm: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
    differ: &mut dyn FnMut(&str, &dyn std::fmt::Debug, &dyn std::fmt::Debug),
) {
    let all: BTreeSet<_> = lvm.keys().chain(found.keys()).collect();
    for uuid in all {
        let (lvm, found) = (lvm.get(uuid), found.get(uuid));
        if lvm != found {
            differ(&format!("{kind} {uuid} as"), &lvm, &found);
        }
    }
}

#[cfg(test)]
mod tests;
