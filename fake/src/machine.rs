//! The machine under the driver: disks, volume groups, devices, mounts. It outlives the driver's process,
//! and of a power cut only what was flushed survives.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};

use quarry::host::kernel::{DeviceNumber, Held, MountEntry};
use tokio_util::sync::CancellationToken;

use crate::cow::Store;
use crate::device::Device;
use crate::disk::{Disk, PAGE, Survivors};
use crate::disk_format::{self, DATA_START, EXTENT};
use crate::lvm::{Group, Kind, LogicalVolume, PhysicalVolume, Segment, Thin, data_name, metadata_name};
use crate::thin::Pool;

/// device-mapper's major number.
pub const MAPPER: u32 = 253;
/// Lies in every extent before anything is made: what an earlier tenant left.
pub const STALE: &[u8] = b"of an earlier tenant";

/// What goes wrong within an lvm command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ends after its first commit. What it has suspended by then stays so.
    BreaksOff,
    /// It ends before it sets going what it has suspended.
    LeavesSuspended,
}

/// A device that a driver has open.
#[derive(Clone)]
struct Hold {
    minor: u32,
    /// Gone when it is closed.
    by: Weak<()>,
    /// Says that the driver died.
    dead: CancellationToken,
}

#[derive(Clone, Default)]
pub struct Machine {
    pub disks: BTreeMap<String, Disk>,
    pub groups: Vec<Group>,
    /// Every state that was committed, so that a power cut can go back to an earlier one.
    history: BTreeMap<(String, u64), Group>,
    pub devices: BTreeMap<u32, Device>,
    /// What the kernel knows of thin pools and of thick snapshots, by the numbers of their logical volumes.
    pub pools: BTreeMap<u64, Pool>,
    pub stores: BTreeMap<u64, Store>,
    /// What goes wrong within the next command.
    pub fault: Option<Fault>,
    pub mounts: Vec<MountEntry>,
    /// The sequence number that was last backed up, by group.
    pub backups: BTreeMap<String, u64>,
    holds: Vec<Hold>,
    next_number: u64,
}

impl Machine {
    /// Two disks with the group `vg`, in which an admin's own volume is active and mounted, and a third
    /// with the group `vg-2`.
    pub fn new() -> Self {
        let mut machine = Self::default();
        machine.make_group("vg", &[("sda", 8), ("sdb", 8)]);
        machine.make_group("vg-2", &[("sdc", 8)]);
        machine.disks.values_mut().for_each(leave_traces);
        machine.make_volume("vg", "admins", 1, &[]).unwrap();
        machine.activate("vg", "admins");
        machine.write_device(0, 0, b"the admin's own data").unwrap();
        machine.devices.get_mut(&0).unwrap().opened = 1;
        machine.disks.values_mut().for_each(Disk::flush);
        machine
    }

    /// A new disk of so many extents with the group `vg`, and volumes of one extent each, by their names and tags. It
    /// takes little memory.
    pub fn plain(extents: usize, volumes: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let mut machine = Self::default();
        machine.make_group("vg", &[("sda", extents)]);
        for (start, (name, tags)) in volumes.into_iter().enumerate() {
            let number = machine.number();
            let segments = vec![Segment { physical_volume: 0, start, extents: 1 }];
            machine.groups[0].volumes.push(LogicalVolume { name, number, tags, segments, kind: Kind::Plain });
        }
        machine.commit("vg");
        machine.disks.values_mut().for_each(Disk::flush);
        machine
    }

    fn make_group(&mut self, name: &str, disks: &[(&str, usize)]) {
        let number = self.number();
        let mut physical_volumes = Vec::new();
        for (disk, extents) in disks {
            let number = self.number();
            let mut content = Disk::new(DATA_START + extents * EXTENT);
            disk_format::label(&mut content, number);
            self.disks.insert((*disk).to_owned(), content);
            physical_volumes.push(PhysicalVolume { disk: (*disk).to_owned(), number, extents: *extents });
        }
        let group = Group { name: name.to_owned(), number, seqno: 0, physical_volumes, volumes: Vec::new() };
        self.groups.push(group);
        self.commit(name);
    }

    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    pub fn group_mut(&mut self, name: &str) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.name == name)
    }

    pub fn volume(&self, group: &str, name: &str) -> Option<&LogicalVolume> {
        self.group(group)?.volume(name)
    }

    /// A new volume without a room of its own yet.
    pub fn make(&mut self, name: &str, kind: Kind, segments: Vec<Segment>, tags: &[String]) -> LogicalVolume {
        LogicalVolume { name: name.to_owned(), number: self.number(), tags: tags.to_vec(), segments, kind }
    }

    /// `lvcreate --type linear`; `None` when there is no room.
    pub fn make_volume(&mut self, group: &str, name: &str, extents: usize, tags: &[String]) -> Option<()> {
        let segments = self.group(group)?.allocate(extents)?;
        let volume = self.make(name, Kind::Plain, segments, tags);
        self.group_mut(group)?.volumes.push(volume);
        self.commit(group);
        Some(())
    }

    /// Writes the group to all its disks. Like lvm it does not flush them. Answers whether the command goes on.
    pub fn commit(&mut self, name: &str) -> bool {
        let Some(group) = self.groups.iter_mut().find(|group| group.name == name) else { return false };
        group.seqno += 1;
        let text = disk_format::describe(group);
        for volume in &group.physical_volumes {
            disk_format::commit(self.disks.get_mut(&volume.disk).unwrap(), &text);
        }
        self.history.insert((name.to_owned(), group.seqno), group.clone());
        self.fault != Some(Fault::BreaksOff)
    }

    pub fn activate(&mut self, group: &str, name: &str) {
        if self.minor(group, name).is_some() {
            return;
        }
        let minor = (0..=u32::MAX).find(|minor| !self.devices.contains_key(minor)).unwrap();
        let number = self.group(group).unwrap().number;
        let table = self.volume(group, name).unwrap().clone();
        if let Some(thin) = table.thin() {
            self.load_pool(group, &thin.pool);
        }
        let uuid = mapper_uuid(number, table.number);
        let (group, volume) = (group.to_owned(), name.to_owned());
        let device = Device { group, volume, uuid, suspended: false, read_only: false, table, opened: 0 };
        self.devices.insert(minor, device);
    }

    /// Loads the tables of an active volume and of what hangs together with it anew, and sets them going.
    pub fn reload(&mut self, group: &str, name: &str) {
        if self.fault == Some(Fault::LeavesSuspended) {
            return self.suspend(group, name);
        }
        if self.group(group).is_some_and(|group| group.pool(name).is_some()) {
            return self.load_pool(group, name);
        }
        for name in self.together(group, name) {
            let Some(minor) = self.minor(group, &name) else { continue };
            let table = self.volume(group, &name).unwrap().clone();
            let device = self.devices.get_mut(&minor).unwrap();
            (device.table, device.suspended) = (table, false);
        }
    }

    pub fn suspend(&mut self, group: &str, name: &str) {
        for name in self.together(group, name) {
            if let Some(minor) = self.minor(group, &name) {
                self.devices.get_mut(&minor).unwrap().suspended = true;
            }
        }
    }

    /// A thick volume and its snapshots are suspended and resumed together.
    fn together(&self, group: &str, name: &str) -> Vec<String> {
        let there = self.group(group).unwrap();
        let origin = there.volume(name).and_then(LogicalVolume::origin).unwrap_or(name);
        let snapshots = there.snapshots_of(origin).map(|snapshot| snapshot.name.clone());
        std::iter::once(origin.to_owned()).chain(snapshots).collect()
    }

    /// Has the kernel's pool take all that lvm gave it.
    pub fn load_pool(&mut self, group: &str, name: &str) {
        let there = self.group(group).unwrap();
        let Some(pool) = there.volume(name) else { return };
        let extents = |name: &str| there.volume(name).map_or(0, LogicalVolume::extents);
        let loaded = (extents(&data_name(name)), extents(&metadata_name(name)));
        let number = pool.number;
        if let Some(pool) = self.pools.get_mut(&number) {
            pool.loaded = loaded;
        }
    }

    /// The kernel's side of the pool of a thin volume.
    pub fn pool_of(&self, group: &str, thin: &Thin) -> &Pool {
        &self.pools[&self.volume(group, &thin.pool).unwrap().number]
    }

    pub fn pool_of_mut(&mut self, group: &str, thin: &Thin) -> &mut Pool {
        let number = self.volume(group, &thin.pool).unwrap().number;
        self.pools.get_mut(&number).unwrap()
    }

    /// Whether a pool is active: for itself or for one of its volumes.
    pub fn is_pool_active(&self, group: &str, name: &str) -> bool {
        let Some(pool) = self.volume(group, name).and_then(|pool| self.pools.get(&pool.number)) else { return false };
        let is_in =
            |device: &Device| device.group == group && device.table.thin().is_some_and(|thin| thin.pool == name);
        pool.is_kept_active || self.devices.values().any(is_in)
    }

    pub fn minor(&self, group: &str, name: &str) -> Option<u32> {
        let found = self.devices.iter().find(|(_, device)| device.group == group && device.volume == name);
        found.map(|(minor, _)| *minor)
    }

    /// The minor number in `/dev/dm-7`.
    pub fn minor_at(&self, path: &Path) -> Option<u32> {
        let minor = path.to_str()?.strip_prefix("/dev/dm-")?.parse().ok()?;
        self.devices.contains_key(&minor).then_some(minor)
    }

    pub fn open_count(&self, minor: u32) -> u32 {
        // What a dead driver had open is closed.
        let holds = |hold: &Hold| hold.minor == minor && !hold.dead.is_cancelled() && hold.by.strong_count() > 0;
        self.user_count(minor) + u32::from(self.holds.iter().any(holds))
    }

    /// How many have it open, the driver itself not counted.
    pub fn user_count(&self, minor: u32) -> u32 {
        let number = DeviceNumber { major: MAPPER, minor };
        let is_mounted = self.mounts.iter().any(|mount| mount.device == number);
        self.devices[&minor].opened + u32::from(is_mounted)
    }

    /// Opens a device for a driver.
    pub fn hold(&mut self, minor: u32, dead: &CancellationToken) -> Held {
        let by = Arc::new(());
        self.holds.retain(|hold| hold.by.strong_count() > 0);
        self.holds.push(Hold { minor, by: Arc::downgrade(&by), dead: dead.clone() });
        Held::by(by)
    }

    /// Devices and mounts are gone; the groups are what the disks still say, the newest copy of each.
    pub fn lose_power(&mut self, survivors: Survivors) {
        self.devices.clear();
        self.holds.clear();
        self.mounts.clear();
        self.pools.values_mut().for_each(Pool::lose_power);
        self.disks.values_mut().for_each(|disk| disk.lose_power(survivors, DATA_START));
        let seqno = |disk: &str| {
            let text = disk_format::text(&self.disks[disk]);
            text.lines().find_map(|line| line.strip_prefix("seqno = ")?.parse::<u64>().ok()).unwrap()
        };
        for index in 0..self.groups.len() {
            let group = &self.groups[index];
            let newest = group.physical_volumes.iter().map(|volume| seqno(&volume.disk)).max().unwrap();
            self.groups[index] = self.history[&(group.name.clone(), newest)].clone();
        }
        // Booting activates and opens the admin's volume again.
        self.activate("vg", "admins");
        self.devices.get_mut(&0).unwrap().opened = 1;
    }

    pub fn is_backed_up(&self, group: &str) -> bool {
        self.backups.get(group) == self.group(group).map(|group| &group.seqno)
    }

    /// Whether a text can be read in what is free of any group: the next tenant would see it.
    pub fn free_space_holds(&self, text: &[u8]) -> bool {
        self.groups.iter().any(|group| {
            group.physical_volumes.iter().enumerate().any(|(index, volume)| {
                let disk = &self.disks[&volume.disk];
                group
                    .free_on(index)
                    .into_iter()
                    .any(|extent| disk.has_page_with(text, DATA_START + extent * EXTENT, EXTENT))
            })
        })
    }

    /// The device that is shown at a path: a file system's, or the device itself.
    pub fn shown_at(&self, target: &Path) -> Option<u32> {
        let mount = self.mounts.iter().rev().find(|mount| mount.target == target)?;
        match mount.device.major {
            MAPPER => Some(mount.device.minor),
            _ => self.minor_at(&Path::new("/dev").join(mount.root.file_name()?)),
        }
    }
}

/// Device-mapper's UUID of a volume's device, from the numbers of its group and of itself.
pub fn mapper_uuid(group: u64, volume: u64) -> String {
    format!("LVM-{group:032}{volume:032}")
}

/// What an earlier tenant left in every extent.
fn leave_traces(disk: &mut Disk) {
    for start in (DATA_START..disk.size).step_by(EXTENT) {
        disk.write(start, &crate::file_system::superblock(EXTENT));
        disk.write(start + PAGE, STALE);
        disk.write(start + EXTENT - PAGE, STALE);
    }
}
