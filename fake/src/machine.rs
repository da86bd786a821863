//! The machine under the driver: disks, volume groups, devices, mounts. It outlives the driver's process,
//! and of a power cut only what was flushed survives.

use std::collections::BTreeMap;
use std::path::Path;

use quarry::host::kernel::{DeviceNumber, MountEntry};

use crate::device::Device;
use crate::disk::{Disk, PAGE, Survivors};
use crate::disk_format::{self, DATA_START, EXTENT};
use crate::lvm::{Group, LogicalVolume, PhysicalVolume, Segment};

/// device-mapper's major number.
pub const MAPPER: u32 = 253;
/// Lies in every extent before anything is made: what an earlier tenant left.
pub const STALE: &[u8] = b"of an earlier tenant";

#[derive(Clone, Default)]
pub struct Machine {
    pub disks: BTreeMap<String, Disk>,
    pub groups: Vec<Group>,
    /// Every state that was committed, so that a power cut can go back to an earlier one.
    history: BTreeMap<(String, u64), Group>,
    pub devices: BTreeMap<u32, Device>,
    pub mounts: Vec<MountEntry>,
    /// The sequence number that was last backed up, by group.
    pub backups: BTreeMap<String, u64>,
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
        machine.write_device(0, 0, b"the admin's own data");
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
            machine.groups[0].volumes.push(LogicalVolume { name, number, tags, segments });
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

    /// `lvcreate`; `None` when there is no room.
    pub fn make_volume(&mut self, group: &str, name: &str, extents: usize, tags: &[String]) -> Option<()> {
        let number = self.number();
        let segments = self.group(group)?.allocate(extents)?;
        let volume = LogicalVolume { name: name.to_owned(), number, tags: tags.to_vec(), segments };
        self.group_mut(group)?.volumes.push(volume);
        self.commit(group);
        Some(())
    }

    /// Writes the group to all its disks. Like lvm it does not flush them.
    pub fn commit(&mut self, name: &str) {
        let Some(group) = self.groups.iter_mut().find(|group| group.name == name) else { return };
        group.seqno += 1;
        let text = disk_format::describe(group);
        for volume in &group.physical_volumes {
            disk_format::commit(self.disks.get_mut(&volume.disk).unwrap(), &text);
        }
        self.history.insert((name.to_owned(), group.seqno), group.clone());
    }

    pub fn activate(&mut self, group: &str, name: &str) {
        if self.minor(group, name).is_some() {
            return;
        }
        let minor = (0..=u32::MAX).find(|minor| !self.devices.contains_key(minor)).unwrap();
        let number = self.group(group).unwrap().number;
        let table = self.volume(group, name).unwrap().clone();
        let uuid = format!("LVM-{number:032}{:032}", table.number);
        let (group, volume) = (group.to_owned(), name.to_owned());
        let device = Device { group, volume, uuid, suspended: false, read_only: false, table, opened: 0 };
        self.devices.insert(minor, device);
    }

    /// Loads the table of an active volume anew and sets it going.
    pub fn reload(&mut self, group: &str, name: &str) {
        let Some(minor) = self.minor(group, name) else { return };
        let table = self.volume(group, name).unwrap().clone();
        let device = self.devices.get_mut(&minor).unwrap();
        (device.table, device.suspended) = (table, false);
    }

    /// What a command leaves that died between suspending and resuming the device of `group/volume`.
    pub fn suspend(&mut self, full_name: &str) {
        let Some((group, name)) = full_name.split_once('/') else { return };
        if let Some(minor) = self.minor(group, name) {
            self.devices.get_mut(&minor).unwrap().suspended = true;
        }
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
        let number = DeviceNumber { major: MAPPER, minor };
        let is_mounted = self.mounts.iter().any(|mount| mount.device == number);
        self.devices[&minor].opened + u32::from(is_mounted)
    }

    pub fn bytes_of(&self, minor: u32) -> usize {
        self.devices[&minor].table.extents() * EXTENT
    }

    pub fn read_device(&self, minor: u32, offset: usize, length: usize) -> Vec<u8> {
        self.read_pieces(&self.pieces(minor, offset, length))
    }

    /// What lies on a volume, active or not.
    pub fn read_volume(&self, group: &str, volume: &LogicalVolume, offset: usize, length: usize) -> Vec<u8> {
        self.read_pieces(&self.pieces_of(group, volume, offset, length))
    }

    fn read_pieces(&self, pieces: &[(String, usize, usize)]) -> Vec<u8> {
        pieces.iter().map(|(disk, at, count)| self.disks[disk].read(*at, *count)).collect::<Vec<_>>().concat()
    }

    pub fn is_zero(&self, minor: u32, offset: usize, length: usize) -> bool {
        self.pieces(minor, offset, length).iter().all(|(disk, at, count)| self.disks[disk].is_zero(*at, *count))
    }

    pub fn write_device(&mut self, minor: u32, offset: usize, bytes: &[u8]) {
        let mut rest = bytes;
        for (disk, at, count) in self.pieces(minor, offset, bytes.len()) {
            let (now, later) = rest.split_at(count);
            self.disks.get_mut(&disk).unwrap().write(at, now);
            rest = later;
        }
    }

    pub fn zero_device(&mut self, minor: u32, offset: usize, length: usize) {
        for (disk, at, count) in self.pieces(minor, offset, length) {
            self.disks.get_mut(&disk).unwrap().zero(at, count);
        }
    }

    /// A flush goes down to every disk that the device lies on.
    pub fn flush_device(&mut self, minor: u32) {
        for (disk, _, _) in self.pieces(minor, 0, self.bytes_of(minor)) {
            self.disks.get_mut(&disk).unwrap().flush();
        }
    }

    /// Where a stretch of a device lies: disk, offset, length. Input and output of a suspended device
    /// would wait for ever.
    fn pieces(&self, minor: u32, offset: usize, length: usize) -> Vec<(String, usize, usize)> {
        let device = &self.devices[&minor];
        assert!(!device.suspended, "{} is used while it is suspended", device.volume);
        self.pieces_of(&device.group, &device.table, offset, length)
    }

    fn pieces_of(
        &self,
        group: &str,
        volume: &LogicalVolume,
        offset: usize,
        length: usize,
    ) -> Vec<(String, usize, usize)> {
        assert!(offset + length <= volume.extents() * EXTENT, "{} is used beyond its end", volume.name);
        let volumes = &self.group(group).unwrap().physical_volumes;
        let (mut pieces, mut start) = (Vec::new(), 0);
        for segment in &volume.segments {
            let bytes = segment.extents * EXTENT;
            let (from, to) = (offset.max(start), (offset + length).min(start + bytes));
            if from < to {
                let at = DATA_START + segment.start * EXTENT + from - start;
                pieces.push((volumes[segment.physical_volume].disk.clone(), at, to - from));
            }
            start += bytes;
        }
        pieces
    }

    /// Devices and mounts are gone; the groups are what the disks still say, the newest copy of each.
    pub fn lose_power(&mut self, survivors: Survivors) {
        self.devices.clear();
        self.mounts.clear();
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

/// What an earlier tenant left in every extent.
fn leave_traces(disk: &mut Disk) {
    for start in (DATA_START..disk.size).step_by(EXTENT) {
        disk.write(start, &crate::file_system::superblock(EXTENT));
        disk.write(start + PAGE, STALE);
        disk.write(start + EXTENT - PAGE, STALE);
    }
}
