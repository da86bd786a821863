//! What can be seen of a machine from outside, to compare two runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::copied;
use crate::device::Device;
use crate::file_system;
use crate::lvm::{Group, Kind, LogicalVolume, Message, Pool};
use crate::machine::{MAPPER, Machine};
use crate::orchestrator::Orchestrator;

/// What a user writes, one over the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    First,
    Later,
}

/// Where: a new file system's making would overwrite it.
pub(crate) const TEXT_AT: usize = 512 << 10;

impl Text {
    const ALL: [Self; 2] = [Self::First, Self::Later];

    pub(crate) fn bytes(self) -> &'static [u8] {
        match self {
            Self::First => b"the data of a user",
            Self::Later => b"what a user wrote later",
        }
    }
}

/// Everything that a user or an admin could tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observation {
    volumes: BTreeMap<String, Volume>,
    /// By name: what lvm and the kernel do not agree on.
    pools: BTreeMap<String, Disagreement>,
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
    text: Option<Text>,
    /// Whether its xfs or btrfs has the UUID of another volume's.
    is_uuid_shared: bool,
    /// What it hangs on, as a thick snapshot.
    origin: Option<String>,
    is_thin: bool,
}

/// What is wrong with a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Disagreement {
    /// Devices that take room, of no logical volume.
    leaked: BTreeSet<u64>,
    /// Thin volumes without a device of their own.
    without_device: BTreeSet<String>,
}

impl Observation {
    pub(crate) fn of(orchestrator: &Orchestrator) -> Self {
        let machine = orchestrator.bench.machine();
        let root = orchestrator.root();
        let all = || machine.groups.iter().flat_map(|group| group.volumes.iter().map(move |volume| (group, volume)));
        let visible = all().filter(|(_, volume)| volume.is_visible());
        let volumes = visible.map(|(group, volume)| (full_name(group, volume), Volume::of(&machine, group, volume)));
        let pools = all().filter_map(|(group, volume)| match &volume.kind {
            Kind::Pool(pool) => Some((full_name(group, volume), Disagreement::on(&machine, group, volume, pool))),
            _ => None,
        });
        // The device of a copy may have stayed after its making, for its first user.
        let is_idle = |minor: &u32, device: &Device| {
            let volume = machine.volume(&device.group, &device.volume);
            let is_copy = volume.is_some_and(|volume| volume.tags.iter().any(|tag| tag.starts_with("quarry.source=")));
            is_copy && !device.suspended && machine.open_count(*minor) == 0
        };
        let devices =
            machine.devices.iter().filter(|(minor, device)| !is_idle(minor, device)).map(|(minor, device)| {
                (device.name(), (device.suspended, device.read_only, machine.open_count(*minor)))
            });
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
            pools: pools.collect(),
            devices: devices.collect(),
            mounts,
            paths: paths(&root.join("pods")),
            is_users_data_in_free_space: Text::ALL.iter().any(|text| machine.free_space_holds(text.bytes())),
        }
    }
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

impl Volume {
    fn of(machine: &Machine, group: &Group, volume: &LogicalVolume) -> Self {
        // When a group snapshot was made differs between two runs.
        let (taken, mut tags): (Vec<String>, _) =
            volume.tags.iter().cloned().partition(|tag| tag.starts_with("quarry.taken="));
        tags.extend(taken.iter().map(|_| String::from("quarry.taken=")));
        tags.sort();
        Self {
            extents: volume.extents(),
            tags,
            file_system: file_system_on(machine, &group.name, volume),
            text: text_on(machine, &group.name, volume),
            is_uuid_shared: is_uuid_shared(machine, group, volume),
            origin: volume.origin().map(str::to_owned),
            is_thin: volume.thin().is_some(),
        }
    }
}

impl Disagreement {
    fn on(machine: &Machine, group: &Group, volume: &LogicalVolume, pool: &Pool) -> Self {
        let thin: Vec<(&str, u64)> =
            group.thin_volumes(&volume.name).map(|(volume, thin)| (volume.name.as_str(), thin.device_id)).collect();
        let ids: BTreeSet<u64> = thin.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids.len(), thin.len(), "two volumes of pool {} have one device", volume.name);
        let kernel = &machine.pools[&volume.number];
        // What is still to be told to the kernel will be, with the pool's next change.
        let is_known = |id: &u64| ids.contains(id) || pool.messages.contains(&Message::Delete(*id));
        Self {
            leaked: kernel.devices().filter(|id| !is_known(id)).collect(),
            without_device: thin
                .iter()
                .filter(|(_, id)| !kernel.has(*id))
                .map(|(name, _)| (*name).to_owned())
                .collect(),
        }
    }
}

fn full_name(group: &Group, volume: &LogicalVolume) -> String {
    format!("{}/{}", group.name, volume.name)
}

/// Bytes of the ext4 on a volume.
pub(crate) fn file_system_on(machine: &Machine, group: &str, volume: &LogicalVolume) -> Option<usize> {
    file_system::bytes(&read(machine, group, volume, 0, file_system::BLOCK)?)
}

fn is_uuid_shared(machine: &Machine, group: &Group, volume: &LogicalVolume) -> bool {
    let uuid = |volume: &LogicalVolume| {
        let is_on = |kind: &copied::Kind| {
            let (at, magic) = kind.magic();
            volume.is_volume()
                && read(machine, &group.name, volume, at, magic.len()).is_some_and(|found| found == magic)
        };
        let kind = copied::Kind::ALL.into_iter().find(is_on)?;
        read(machine, &group.name, volume, kind.uuid(), 16)
    };
    let is_same = |other: &&LogicalVolume| other.name != volume.name && uuid(other) == uuid(volume);
    uuid(volume).is_some() && group.volumes.iter().any(|other| is_same(&other))
}

/// What a user wrote to a volume.
pub(crate) fn text_on(machine: &Machine, group: &str, volume: &LogicalVolume) -> Option<Text> {
    let found = read(machine, group, volume, TEXT_AT, file_system::BLOCK)?;
    Text::ALL.into_iter().find(|text| found.starts_with(text.bytes()))
}

fn read(machine: &Machine, group: &str, volume: &LogicalVolume, offset: usize, length: usize) -> Option<Vec<u8>> {
    let is_lost = machine.stores.get(&volume.number).is_some_and(|store| store.is_lost);
    let is_readable = !matches!(volume.kind, Kind::Pool(_)) && !is_lost;
    is_readable.then(|| machine.read_volume(group, volume, offset, length))
}
