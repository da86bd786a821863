//! The kernel of the fake machine.

use std::io::{self, ErrorKind};
use std::path::Path;

use quarry::host::kernel::{
    BlockDevice, Copying, DeviceNumber, FileSystemUsage, Held, Kernel, MappedDevice, Mount, MountEntry, PoolMode,
    PoolStatus, SnapshotStatus, Stretch,
};
use quarry::lvm::tags::RENEWING_FROM;

use crate::cow;
use crate::device::{Device, node};
use crate::disk::Disk;
use crate::disk_format::{EXTENT, SECTOR};
use crate::file_system;
use crate::lvm::{Kind, LogicalVolume, Thin};
use crate::machine::{MAPPER, Machine, mapper_uuid};
use crate::seat::Seat;

/// Bytes of a block of a pool's metadata.
const BLOCK: usize = 4096;
/// The number of the file system in which the device nodes lie.
const DEVTMPFS: DeviceNumber = DeviceNumber { major: 0, minor: 6 };

fn broken<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(5))
}

fn refused<T>(kind: ErrorKind) -> io::Result<T> {
    Err(io::Error::from(kind))
}

/// There is no such device (ENXIO).
fn gone<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(6))
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

#[tonic::async_trait]
impl Kernel for Seat {
    async fn mount(&self, mount: &Mount) -> io::Result<()> {
        self.effect(format!("mount {mount:?}"), |machine| machine.mount(mount), broken).await
    }

    async fn unmount(&self, target: &Path) -> io::Result<()> {
        let unmount = |machine: &mut Machine| {
            let found = machine.mounts.iter().rposition(|mount| mount.target == target);
            let gone = machine.mounts.remove(found.ok_or(ErrorKind::InvalidInput)?);
            if gone.device.major == MAPPER && !machine.mounts.iter().any(|mount| mount.device == gone.device) {
                machine.end_of_mount(gone.device.minor);
            }
            Ok(())
        };
        self.effect(format!("unmount {}", target.display()), unmount, broken).await
    }

    async fn mounts(&self) -> io::Result<Vec<MountEntry>> {
        self.effect("mounts".into(), |machine| Ok(machine.mounts.clone()), broken).await
    }

    async fn device_at(&self, path: &Path) -> io::Result<Option<DeviceNumber>> {
        let device_at = |machine: &mut Machine| {
            let shown = machine.mounts.iter().rev().find(|mount| mount.target == path);
            let is_node = shown.is_none_or(|mount| mount.device == DEVTMPFS);
            let minor = machine.minor_at(path).or_else(|| machine.shown_at(path)).filter(|_| is_node);
            if minor.is_none() {
                path.symlink_metadata()?;
            }
            Ok(minor.map(|minor| DeviceNumber { major: MAPPER, minor }))
        };
        self.effect(format!("device_at {}", path.display()), device_at, broken).await
    }

    async fn usage(&self, _: &Path) -> io::Result<FileSystemUsage> {
        self.effect("usage".into(), |_| Ok(FileSystemUsage::default()), broken).await
    }

    async fn block_devices(&self) -> io::Result<Vec<BlockDevice>> {
        self.effect("block_devices".into(), |machine| Ok(machine.block_devices()), broken).await
    }

    async fn read(&self, stretches: Vec<Stretch>) -> Vec<io::Result<Vec<u8>>> {
        let count = stretches.len();
        let one = |machine: &Machine, stretch: &Stretch| {
            if self.bench.is_broken(&stretch.device) { broken() } else { machine.read(stretch) }
        };
        let read = |machine: &mut Machine| stretches.iter().map(|stretch| one(machine, stretch)).collect();
        let name = format!("read {}", stretches.first().map_or(Path::new(""), |stretch| &stretch.device).display());
        self.effect(name, read, || (0..count).map(|_| broken()).collect()).await
    }

    async fn zero(&self, stretch: Stretch) -> io::Result<()> {
        let zero = |machine: &mut Machine| {
            let Some(minor) = machine.minor_at(&stretch.device) else { return refused(ErrorKind::NotFound) };
            machine.assert_may_be_overwritten(minor);
            machine.zero_device(minor, size(stretch.offset), size(stretch.length))
        };
        self.effect(format!("zero {stretch:?}"), zero, broken).await
    }

    async fn discard(&self, stretch: Stretch) -> io::Result<()> {
        let discard = |machine: &mut Machine| {
            let Some(minor) = machine.minor_at(&stretch.device) else { return refused(ErrorKind::NotFound) };
            machine.assert_may_be_overwritten(minor);
            machine.discard_device(minor, size(stretch.offset), size(stretch.length));
            Ok(())
        };
        self.effect(format!("discard {stretch:?}"), discard, broken).await
    }

    async fn hold(&self, device: &Path) -> io::Result<Held> {
        let hold = |machine: &mut Machine| match machine.minor_at(device) {
            Some(minor) => Ok(machine.hold(minor, &self.dead)),
            None => refused(ErrorKind::NotFound),
        };
        self.effect(format!("hold {}", device.display()), hold, broken).await
    }

    /// Nothing that is written is kept in memory here.
    async fn sync(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn flush(&self, device: &Path) -> io::Result<()> {
        let flush = |machine: &mut Machine| {
            if let Some(minor) = machine.minor_at(device) {
                machine.flush_device(minor);
                return Ok(());
            }
            let disk = device.file_name().and_then(|name| machine.disks.get_mut(name.to_str()?));
            disk.map(Disk::flush).ok_or_else(|| ErrorKind::NotFound.into())
        };
        self.effect(format!("flush {}", device.display()), flush, broken).await
    }

    async fn set_read_only(&self, device: &Path, read_only: bool) -> io::Result<()> {
        let set = |machine: &mut Machine| {
            let Some(minor) = machine.minor_at(device) else { return refused(ErrorKind::NotFound) };
            machine.devices.get_mut(&minor).unwrap().read_only = read_only;
            Ok(())
        };
        self.effect(format!("set_read_only {} {read_only}", device.display()), set, broken).await
    }

    async fn mapped_devices(&self) -> io::Result<Vec<MappedDevice>> {
        self.effect("mapped_devices".into(), |machine| Ok(machine.mapped_devices()), broken).await
    }

    async fn pool_status(&self, uuid: &str) -> io::Result<Option<PoolStatus>> {
        let status = |machine: &mut Machine| Ok(uuid.strip_suffix("-tpool").and_then(|uuid| machine.pool_status(uuid)));
        self.effect(format!("pool_status {uuid}"), status, broken).await
    }

    async fn snapshot_status(&self, uuid: &str) -> io::Result<Option<SnapshotStatus>> {
        self.effect(format!("snapshot_status {uuid}"), |machine| Ok(machine.snapshot_status(uuid)), broken).await
    }

    async fn message(&self, uuid: &str, message: &str) -> io::Result<()> {
        self.effect(format!("message {uuid} {message}"), |machine| machine.message(uuid, message), broken).await
    }

    async fn suspend(&self, uuid: &str) -> io::Result<()> {
        self.effect(format!("suspend {uuid}"), |machine| machine.hold_back(uuid, true), broken).await
    }

    async fn resume(&self, uuid: &str) -> io::Result<()> {
        self.effect(format!("resume {uuid}"), |machine| machine.hold_back(uuid, false), broken).await
    }

    async fn copy(&self, copying: Copying) -> io::Result<()> {
        self.effect(format!("copy {copying:?}"), |machine| machine.copy(&copying), broken).await
    }
}

/// Zeroes are passed over in units of this when a thin volume is copied to.
const UNIT: usize = 64 << 10;

impl Machine {
    fn read(&self, stretch: &Stretch) -> io::Result<Vec<u8>> {
        let (offset, length) = (size(stretch.offset), size(stretch.length));
        if let Some(minor) = self.minor_at(&stretch.device) {
            return Ok(self.read_device(minor, offset, length));
        }
        let disk = stretch.device.file_name().and_then(|name| self.disks.get(name.to_str()?));
        disk.map(|disk| disk.read(offset, length)).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn block_devices(&self) -> Vec<BlockDevice> {
        let disk = |(minor, (name, disk)): (u32, (&String, &Disk))| BlockDevice {
            path: Path::new("/dev").join(name),
            number: DeviceNumber { major: 8, minor },
            size: disk.size as u64,
            is_component: false,
            mapper_uuid: None,
        };
        let mapped = |(minor, device): (&u32, &Device)| BlockDevice {
            path: node(*minor),
            number: DeviceNumber { major: MAPPER, minor: *minor },
            size: self.bytes_of(*minor) as u64,
            is_component: false,
            mapper_uuid: Some(device.uuid.clone()),
        };
        (0..).zip(&self.disks).map(disk).chain(self.devices.iter().map(mapped)).collect()
    }

    fn mapped_devices(&self) -> Vec<MappedDevice> {
        let mapped = |(minor, device): (&u32, &Device)| MappedDevice {
            name: device.name(),
            uuid: device.uuid.clone(),
            number: DeviceNumber { major: MAPPER, minor: *minor },
            open_count: self.open_count(*minor),
            suspended: device.suspended,
            read_only: device.read_only,
        };
        self.devices.iter().map(mapped).collect()
    }

    /// The volume with that UUID of device-mapper, and its group's name.
    fn volume_with(&self, uuid: &str) -> Option<(&str, &LogicalVolume)> {
        self.groups.iter().find_map(|group| {
            let has_it = |volume: &&LogicalVolume| mapper_uuid(group.number, volume.number) == uuid;
            Some((group.name.as_str(), group.volumes.iter().find(has_it)?))
        })
    }

    fn pool_status(&self, uuid: &str) -> Option<PoolStatus> {
        let (group, volume) = self.volume_with(uuid)?;
        let Kind::Pool(pool) = &volume.kind else { return None };
        let kernel = self.pools.get(&volume.number).filter(|_| self.is_pool_active(group, &volume.name))?;
        let (data, metadata) = kernel.loaded;
        let (used, total) = (kernel.used(), data * EXTENT / pool.chunk_bytes);
        Some(PoolStatus {
            mode: if used < total { PoolMode::Writable } else { PoolMode::OutOfDataSpace },
            needs_check: false,
            transaction_id: kernel.transaction_id(),
            low_water: 0,
            used_data: used as u64,
            total_data: total as u64,
            used_metadata: kernel.used_metadata as u64 + 1,
            total_metadata: (metadata * EXTENT / BLOCK) as u64,
            metadata_snapshot: None,
        })
    }

    /// A message to a pool: its next commit has what it did.
    fn message(&mut self, uuid: &str, message: &str) -> io::Result<()> {
        let found = uuid.strip_suffix("-tpool").and_then(|uuid| self.volume_with(uuid));
        let found = found.filter(|(group, pool)| self.is_pool_active(group, &pool.name));
        let Some((group, pool, number)) = found.map(|(group, pool)| (group.to_owned(), pool.name.clone(), pool.number))
        else {
            return gone();
        };
        let words: Vec<&str> = message.split(' ').collect();
        let ids: Vec<u64> = words[1..].iter().map(|id| id.parse().unwrap()).collect();
        let active = |id: u64| {
            let is_it = |thin: &Thin| thin.pool == pool && thin.device_id == id;
            self.devices.values().find(|device| device.group == group && device.table.thin().is_some_and(is_it))
        };
        match (words[0], &ids[..]) {
            ("delete", [id]) if !self.pools[&number].has(*id) => return Err(io::Error::from_raw_os_error(61)),
            ("delete", [id]) if active(*id).is_some() => return Err(io::Error::from_raw_os_error(16)),
            ("delete", [id]) => self.pools.get_mut(&number).unwrap().delete(*id),
            ("create_snap", [id, origin]) => {
                let is_held = active(*origin).is_none_or(|device| device.suspended);
                assert!(is_held, "device {origin} of {pool} is snapshotted while it is written to");
                self.pools.get_mut(&number).unwrap().create(*id, Some(*origin));
            }
            _ => panic!("message {message}"),
        }
        self.commit_pool(&group, &pool);
        Ok(())
    }

    fn hold_back(&mut self, uuid: &str, suspended: bool) -> io::Result<()> {
        let Some(device) = self.devices.values_mut().find(|device| device.uuid == uuid) else { return gone() };
        device.suspended = suspended;
        Ok(())
    }

    fn snapshot_status(&self, uuid: &str) -> Option<SnapshotStatus> {
        let device = self.devices.values().find(|device| device.uuid == uuid)?;
        device.table.origin()?;
        let store = &self.stores[&device.table.number];
        if store.is_lost {
            return Some(SnapshotStatus::Lost);
        }
        Some(SnapshotStatus::Kept {
            used_sectors: (store.used() * cow::PIECE / SECTOR) as u64,
            total_sectors: (device.table.extents() * EXTENT / SECTOR) as u64,
        })
    }

    fn copy(&mut self, copying: &Copying) -> io::Result<()> {
        let (from, to) = (self.minor_at(&copying.from), self.minor_at(&copying.to));
        let (Some(from), Some(to)) = (from, to) else { return refused(ErrorKind::NotFound) };
        self.assert_may_be_overwritten(to);
        for range in &copying.ranges {
            let (start, end) = (size(range.start), size(range.end));
            for at in (start..end).step_by(UNIT) {
                let unit = self.read_device(from, at, UNIT.min(end - at));
                if !copying.is_zeroed || unit.iter().any(|byte| *byte != 0) {
                    self.write_device(to, at, &unit)?;
                }
            }
        }
        Ok(())
    }

    /// Only what nobody has data on may be overwritten by the driver.
    fn assert_may_be_overwritten(&self, minor: u32) {
        let device = &self.devices[&minor];
        let volume = self.volume(&device.group, &device.volume).unwrap();
        let is_nobodys = ["quarry.fresh", "quarry.unfinished"].iter().any(|tag| volume.has_tag(tag))
            || volume.tags.iter().any(|tag| tag.starts_with(RENEWING_FROM));
        let is_free = volume.is_volume() && (is_nobodys || volume.is_deleting()) && device.table.origin().is_none();
        assert!(is_free && self.user_count(minor) == 0, "{volume:?} is overwritten");
    }

    fn mount(&mut self, mount: &Mount) -> io::Result<()> {
        let entry = match mount {
            Mount::FileSystem { device, target, file_system, options } => {
                let Some(minor) = self.minor_at(device) else { return refused(ErrorKind::NotFound) };
                if !target.symlink_metadata()?.is_dir() {
                    return refused(ErrorKind::InvalidInput);
                }
                let found = file_system::bytes(&self.read_device(minor, 0, file_system::BLOCK));
                assert!(found <= Some(self.bytes_of(minor)), "a file system larger than its device is mounted");
                match self.copied_kind(minor) {
                    Some(kind) if kind.word() == file_system => self.mount_copied(minor, kind, options)?,
                    None if file_system == "ext4" && found.is_some() => {}
                    _ => return refused(ErrorKind::InvalidInput),
                }
                MountEntry {
                    device: DeviceNumber { major: MAPPER, minor },
                    root: "/".into(),
                    target: target.clone(),
                    options: per_mount(options),
                    file_system: file_system.clone(),
                    source: device.display().to_string(),
                    super_options: vec!["rw".into()],
                }
            }
            Mount::Bind { source, target, options } => {
                let is_dir = target.symlink_metadata()?.is_dir();
                if let Some(minor) = self.minor_at(source) {
                    assert!(!is_dir, "a device is shown at a folder");
                    MountEntry {
                        device: DEVTMPFS,
                        root: format!("/dm-{minor}").into(),
                        target: target.clone(),
                        options: per_mount(options),
                        file_system: "devtmpfs".into(),
                        source: "udev".into(),
                        super_options: vec!["rw".into()],
                    }
                } else {
                    let shown = self.mounts.iter().rev().find(|mount| mount.target == *source);
                    let shown = shown.expect("a folder is shown in which nothing is mounted");
                    assert!(is_dir, "a folder is shown at a file");
                    MountEntry { target: target.clone(), options: per_mount(options), ..shown.clone() }
                }
            }
        };
        self.mounts.push(entry);
        Ok(())
    }
}

fn per_mount(options: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = vec![if options.iter().any(|option| option == "ro") { "ro" } else { "rw" }.into()];
    shown.extend(options.iter().filter(|option| *option != "ro" && *option != "rw").cloned());
    shown
}
