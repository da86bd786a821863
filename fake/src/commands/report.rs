//! What lvm tells of its groups.

use quarry::host::commands::Output;

use super::done;
use crate::disk_format::{EXTENT, uuid};
use crate::lvm::{Group, LogicalVolume};
use crate::machine::Machine;

impl Machine {
    pub(super) fn report(&self, words: &[&str]) -> Output {
        let ["--all", "--readonly", "--foreign", "--shared", "--reportformat", "json", ..] = words else {
            panic!("fullreport {words:?}")
        };
        let groups: Vec<String> = self.groups.iter().map(report_group).collect();
        Output { stdout: format!("{{\"report\": [{}]}}", groups.join(",")).into_bytes(), ..done() }
    }
}

fn report_group(group: &Group) -> String {
    let extents: usize = group.physical_volumes.iter().map(|volume| volume.extents).sum();
    let physical = group.physical_volumes.iter().enumerate().map(|(index, volume)| {
        format!(
            r#"{{"pv_uuid":"{}","pv_pe_count":"{}","pv_pe_alloc_count":"{}","pv_allocatable":"allocatable","pv_missing":""}}"#,
            uuid(volume.number),
            volume.extents,
            volume.extents - group.free_on(index).len()
        )
    });
    let logical = group.volumes.iter().map(report_volume);
    format!(
        r#"{{"vg":[{{"vg_name":"{}","vg_uuid":"{}","vg_seqno":"{}","vg_extent_size":"{EXTENT}","vg_extent_count":"{extents}","vg_free_count":"{}","vg_tags":""}}],"pv":[{}],"lv":[{}]}}"#,
        group.name,
        uuid(group.number),
        group.seqno,
        group.free_extents(),
        physical.collect::<Vec<_>>().join(","),
        logical.collect::<Vec<_>>().join(",")
    )
}

fn report_volume(volume: &LogicalVolume) -> String {
    // Hidden volumes are reported in brackets.
    let name = if volume.is_visible() { volume.name.clone() } else { format!("[{}]", volume.name) };
    format!(
        r#"{{"lv_name":"{name}","lv_uuid":"{}","lv_size":"{}","lv_tags":"{}"}}"#,
        uuid(volume.number),
        volume.extents() * EXTENT,
        volume.tags.join(",")
    )
}
