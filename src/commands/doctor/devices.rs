//! What LVM and device-mapper say about the volumes that are here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::finding::Finding;
use crate::commands::machine::Machine;
use crate::config::classes::Classes;
use crate::host::kernel::{Kernel, MappedDevice};
use crate::lvm::groups::View;
use crate::node::volume::Volume;

const GROUPS: &str = "groups";
const VOLUMES: &str = "volumes";
const LVM: &str = "lvm";
/// How long lvm may take to report.
const PATIENCE: Duration = Duration::from_secs(30);

/// Groups and devices that cannot be understood; those of a class are worse.
pub(super) fn unclear(classes: Option<&Classes>, view: &View) -> Vec<Finding> {
    let groups = view.unusable.iter().map(|unusable| {
        let is_ours = classes.is_some_and(|classes| classes.use_group(&unusable.name));
        let found = format!("{} cannot be used: {}", unusable.name, unusable.reason);
        Finding::lacking(is_ours, GROUPS, found, "see what vgs and pvs say about it")
    });
    let devices = view.unreadable.iter().map(|unreadable| {
        let found = format!("{} cannot be read: {}", unreadable.device.display(), unreadable.reason);
        Finding::warn(GROUPS, found, "see the kernel's log (dmesg); volumes on it are out of reach")
    });
    groups.chain(devices).collect()
}

pub(super) async fn examine(machine: &Machine, view: &View) -> Vec<Finding> {
    let mut findings = duplicates(view);
    match machine.kernel.mapped_devices().await {
        Ok(devices) => findings.extend(suspended(view, &devices)),
        Err(error) => {
            findings.push(Finding::fail(VOLUMES, format!("device-mapper: {error}"), "see the kernel's log (dmesg)"));
        }
    }
    let count = Volume::all(view).len();
    if findings.is_empty() {
        findings.push(Finding::ok(VOLUMES, format!("{count} here, none suspended, no name twice")));
    }
    findings.extend(match tokio::time::timeout(PATIENCE, machine.groups.compare()).await {
        Ok(Ok(differences)) => judge_comparison(&differences),
        Ok(Err(error)) => vec![Finding::fail(LVM, error.to_string(), "run vgs and see what it says")],
        Err(_) => vec![Finding::fail(
            LVM,
            format!("lvm fullreport has not ended after {} s and was left running", PATIENCE.as_secs()),
            "a device or a lock hangs: see docs/operations.md, \"An lvm command hangs\"",
        )],
    });
    findings
}

/// A volume id names only the logical volume, so two of one name cannot be told apart.
fn duplicates(view: &View) -> Vec<Finding> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for volume in Volume::all(view) {
        groups.entry(volume.logical.name.clone()).or_default().push(volume.group.name.clone());
    }
    let twice = groups.into_iter().filter(|(_, groups)| groups.len() > 1);
    twice
        .map(|(name, groups)| {
            let found = format!("{name} is in the volume groups {}; nothing is done to any of them", groups.join(", "));
            Finding::fail(VOLUMES, found, format!("rename one: lvrename {}/{name} NEW", groups[0]))
        })
        .collect()
}

fn suspended(view: &View, devices: &[MappedDevice]) -> Vec<Finding> {
    let volumes = Volume::all(view);
    let suspended = volumes.iter().filter(|volume| volume.device(devices).is_some_and(|device| device.suspended));
    suspended
        .map(|volume| {
            let name = volume.full_name();
            let found = format!("{name} is suspended: whoever reads or writes it waits");
            Finding::fail(VOLUMES, found, format!("unless an lvm command runs right now: lvchange --refresh {name}"))
        })
        .collect()
}

fn judge_comparison(differences: &[String]) -> Vec<Finding> {
    if differences.is_empty() {
        return vec![Finding::ok(LVM, "reports the same as was read from the disks")];
    }
    let advice = "lvm's filter or devices file may hide disks (lvmdevices(8)); else report it as a defect of quarry";
    differences.iter().map(|difference| Finding::fail(LVM, difference, advice)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::finding::Level;
    use super::*;
    use crate::host::kernel::DeviceNumber;
    use crate::lvm::groups::{Unreadable, Unusable};
    use crate::lvm::model::{LogicalVolume, VolumeGroup, sample};

    fn group(name: &str) -> VolumeGroup {
        let volume = LogicalVolume {
            uuid: format!("data-{name}"),
            tags: vec![String::from("quarry.kind=volume"), String::from("quarry.name=data")],
            ..sample::volume("data", 1)
        };
        VolumeGroup { logical_volumes: vec![Arc::new(volume)], ..sample::group(name, &[]) }
    }

    #[test]
    fn a_name_in_two_groups_and_a_suspended_volume_fail() {
        let groups = ["one", "two"].map(|name| Arc::new(group(name)));
        let device = MappedDevice {
            name: String::from("two-data"),
            uuid: groups[1].logical_volumes[0].mapper_uuid(&groups[1]),
            number: DeviceNumber { major: 254, minor: 0 },
            open_count: 0,
            suspended: true,
            read_only: false,
        };
        let view = View { groups: groups.to_vec(), ..View::default() };
        let twice = duplicates(&view);
        assert!(twice.len() == 1 && twice[0].found.contains("one, two"), "{twice:?}");
        let stuck = suspended(&view, &[device]);
        assert!(stuck.len() == 1 && stuck[0].found.starts_with("two/data is suspended"), "{stuck:?}");
    }

    #[test]
    fn what_cannot_be_understood_fails_only_where_a_class_needs_it() {
        let view = View {
            unusable: ["vg", "other"]
                .map(|name| Unusable { name: name.into(), reason: "torn".into(), told: Vec::new() })
                .to_vec(),
            unreadable: vec![Unreadable { device: "/dev/x".into(), reason: "input/output error".into() }],
            ..View::default()
        };
        let classes = Classes::single(&[String::from("vg")]).unwrap();
        let levels: Vec<_> = unclear(Some(&classes), &view).iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Fail, Level::Warn, Level::Warn]);
    }

    #[test]
    fn every_difference_to_lvm_is_a_failure() {
        assert_eq!(judge_comparison(&[])[0].level, Level::Ok);
        let differences = [String::from("a"), String::from("b")];
        assert!(judge_comparison(&differences).iter().all(|finding| finding.level == Level::Fail));
    }
}
