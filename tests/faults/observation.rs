//! What can be seen of a machine from outside, to compare two runs; and what must be there after a power cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::disk_format::EXTENT;
use crate::file_system;
use crate::lvm::LogicalVolume;
use crate::machine::{MAPPER, Machine};
use crate::orchestrator::{DATA, DATA_AT, Known, Orchestrator};

/// Everything that a user or an admin could tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observation {
    volumes: BTreeMap<String, Volume>,
    /// By name: suspended, read-only, open count.
    devices: BTreeMap<String, (bool, bool, u32)>,
    /// Target, what is shown there, options.
    mounts: Vec<(PathBuf, String, Vec<String>)>,
    /// What lies below the folder of the targets.
    paths: Vec<PathBuf>,
    is_users_data_in_free_space: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Volume {
    extents: usize,
    tags: Vec<String>,
    /// Bytes of the ext4 on it.
    file_system: Option<usize>,
    has_data: bool,
}

impl Observation {
    pub(crate) fn of(orchestrator: &Orchestrator) -> Self {
        let machine = orchestrator.bench.machine();
        let root = orchestrator.root();
        let volumes = machine.groups.iter().flat_map(|group| group.volumes.iter().map(move |volume| (group, volume)));
        let volumes = volumes.map(|(group, volume)| {
            let mut tags = volume.tags.clone();
            tags.sort();
            let observed = Volume {
                extents: volume.extents(),
                tags,
                file_system: file_system_on(&machine, &group.name, volume),
                has_data: has_data(&machine, &group.name, volume),
            };
            (format!("{}/{}", group.name, volume.name), observed)
        });
        let devices = machine
            .devices
            .iter()
            .map(|(minor, device)| (device.name(), (device.suspended, device.read_only, machine.open_count(*minor))));
        let mounts = machine.mounts.iter().map(|mount| {
            let minor = machine.shown_at(&mount.target).expect("a mount of a device that is gone");
            let kind = if mount.device.major == MAPPER { "file system" } else { "device" };
            let target = mount.target.strip_prefix(root).unwrap_or(&mount.target).to_owned();
            assert!(mount.target.symlink_metadata().is_ok(), "{} is mounted, but not there", target.display());
            (target, format!("{kind} of {}", machine.devices[&minor].volume), mount.options.clone())
        });
        let mut mounts: Vec<_> = mounts.collect();
        mounts.sort();
        Self {
            volumes: volumes.collect(),
            devices: devices.collect(),
            mounts,
            paths: paths(&root.join("pods")),
            is_users_data_in_free_space: machine.free_space_holds(DATA),
        }
    }
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

fn file_system_on(machine: &Machine, group: &str, volume: &LogicalVolume) -> Option<usize> {
    file_system::bytes(&machine.read_volume(group, volume, 0, file_system::BLOCK))
}

fn has_data(machine: &Machine, group: &str, volume: &LogicalVolume) -> bool {
    machine.read_volume(group, volume, DATA_AT, DATA.len()) == DATA
}

/// What was answered OK has survived the power cut.
pub(crate) fn assert_kept(machine: &Machine, known: &Known) {
    let find = |name: &str| {
        machine.groups.iter().find_map(|group| group.volume(name).map(|volume| (group.name.as_str(), volume)))
    };
    for (name, extents) in &known.volumes {
        let (group, volume) = find(name).unwrap_or_else(|| panic!("{name} was lost by the power cut"));
        assert!(volume.extents() >= *extents, "the growth of {name} was lost by the power cut");
        if known.staged.contains_key(name) {
            assert!(!volume.has_tag("quarry.fresh"), "{name} was staged and is fresh again after the power cut");
        }
        if known.written.contains(name) {
            assert!(has_data(machine, group, volume), "the data on {name} was lost by the power cut");
        }
        if volume.has_tag("quarry.fs=ext4") {
            let bytes = file_system_on(machine, group, volume);
            assert!(bytes.is_some_and(|bytes| bytes <= volume.extents() * EXTENT), "no good file system on {name}");
        }
    }
    for (name, number) in &known.deleted {
        let is_deleted = find(name).is_none_or(|(_, volume)| volume.number != *number || volume.is_deleting());
        assert!(is_deleted, "{name} was deleted and is back after the power cut");
    }
}
