//! A machine of disks in memory, which can be torn, hung and unplugged.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::host::commands::{Command, CommandError, Commands, Output};
use crate::host::kernel::{
    BlockDevice, DeviceNumber, FileSystemUsage, Held, Kernel, MappedDevice, Mount, MountEntry, Stretch,
};
use crate::lvm::checksum::{INITIAL, checksum};

const SIZE: usize = 1 << 17;
const AREA_SIZE: u64 = 32768;

#[derive(Clone)]
pub(super) struct Disk {
    bytes: Vec<u8>,
    area: usize,
    is_component: bool,
    mapper_uuid: Option<String>,
    /// How many of the next reads come torn.
    torn_reads: usize,
    hangs: bool,
}

impl Disk {
    pub(super) fn empty() -> Self {
        Self { bytes: Vec::new(), area: 0, is_component: false, mapper_uuid: None, torn_reads: 0, hangs: false }
    }

    pub(super) fn blank() -> Self {
        Self { bytes: vec![0; SIZE], ..Self::empty() }
    }

    pub(super) fn volume(uuid: &str) -> Self {
        Self::volume_with_area_at(uuid, 4096)
    }

    pub(super) fn volume_with_area_at(uuid: &str, area: usize) -> Self {
        let mut disk = Self { area, ..Self::blank() };
        let mut sector = [0; 512];
        sector[..8].copy_from_slice(b"LABELONE");
        sector[8] = 1;
        sector[20] = 32;
        sector[24..32].copy_from_slice(b"LVM2 001");
        sector[32..64].copy_from_slice(&raw_uuid(uuid));
        sector[64..72].copy_from_slice(&SIZE.to_le_bytes());
        sector[72..80].copy_from_slice(&65536_u64.to_le_bytes());
        sector[104..112].copy_from_slice(&area.to_le_bytes());
        sector[112..120].copy_from_slice(&AREA_SIZE.to_le_bytes());
        let sum = checksum(INITIAL, &sector[20..]);
        sector[16..20].copy_from_slice(&sum.to_le_bytes());
        disk.bytes[512..1024].copy_from_slice(&sector);
        disk.without_group()
    }

    /// A group on these physical volumes; the text lies behind earlier ones as long as they are few.
    pub(super) fn with_group(mut self, name: &str, uuid: &str, seqno: u64, volumes: &[&str]) -> Self {
        let volume = |(index, uuid): (usize, &&str)| {
            let uuid = hyphenated(uuid);
            format!("pv{index} {{\nid = \"{uuid}\"\nstatus = [\"ALLOCATABLE\"]\npe_count = 10\n}}\n")
        };
        let volumes: Vec<_> = volumes.iter().enumerate().map(volume).collect();
        let text = format!(
            "{name} {{\nid = \"{uuid}\"\nseqno = {seqno}\nstatus = []\nextent_size = 8192\n\
             physical_volumes {{\n{}}}\n}}\n\0",
            volumes.concat()
        );
        let offset = 512 * (1 + usize::try_from(seqno).unwrap() * 2);
        self.bytes[self.area + offset..][..text.len()].copy_from_slice(text.as_bytes());
        self.turn_header(offset as u64, text.len() as u64, checksum(INITIAL, text.as_bytes()));
        self
    }

    pub(super) fn without_group(mut self) -> Self {
        self.turn_header(0, 0, 0);
        self
    }

    pub(super) fn beneath_another(mut self) -> Self {
        self.is_component = true;
        self
    }

    pub(super) fn with_mapper_uuid(mut self, uuid: &str) -> Self {
        self.mapper_uuid = Some(uuid.into());
        self
    }

    fn turn_header(&mut self, offset: u64, size: u64, sum: u32) {
        let header = &mut self.bytes[self.area..][..512];
        header[4..20].copy_from_slice(b" LVM2 x[5A%r0N*>");
        header[20] = 1;
        header[24..32].copy_from_slice(&self.area.to_le_bytes());
        header[32..40].copy_from_slice(&AREA_SIZE.to_le_bytes());
        header[40..48].copy_from_slice(&offset.to_le_bytes());
        header[48..56].copy_from_slice(&size.to_le_bytes());
        header[56..60].copy_from_slice(&sum.to_le_bytes());
        let sum = checksum(INITIAL, &header[4..]);
        header[..4].copy_from_slice(&sum.to_le_bytes());
    }

    fn read(&mut self, stretch: &Stretch) -> Vec<u8> {
        let start = usize::try_from(stretch.offset).unwrap();
        let mut bytes = self.bytes[start..][..usize::try_from(stretch.length).unwrap()].to_vec();
        if self.torn_reads > 0 && start == 0 {
            self.torn_reads -= 1;
            bytes[4096 + 60] ^= 0xff;
        }
        bytes
    }
}

fn raw_uuid(short: &str) -> [u8; 32] {
    let mut uuid = [b'0'; 32];
    uuid[..short.len()].copy_from_slice(short.as_bytes());
    uuid
}

fn hyphenated(short: &str) -> String {
    let raw = String::from_utf8(raw_uuid(short).to_vec()).unwrap();
    let ends = [0, 6, 10, 14, 18, 22, 26, 32];
    let parts: Vec<_> = ends.windows(2).map(|pair| &raw[pair[0]..pair[1]]).collect();
    parts.join("-")
}

#[derive(Default)]
pub(super) struct Machine {
    disks: Mutex<BTreeMap<String, Disk>>,
    calls: Mutex<Vec<Vec<String>>>,
    latency: Mutex<Duration>,
}

impl Machine {
    pub(super) fn plug(&self, name: &str, disk: Disk) {
        self.disks.lock().unwrap().insert(name.into(), disk);
    }

    pub(super) fn unplug(&self, name: &str) -> Disk {
        self.disks.lock().unwrap().remove(name).unwrap()
    }

    pub(super) fn change(&self, name: &str, change: impl FnOnce(Disk) -> Disk) {
        let disk = self.unplug(name);
        self.plug(name, change(disk));
    }

    pub(super) fn tear(&self, name: &str, reads: usize) {
        self.change(name, |disk| Disk { torn_reads: reads, ..disk });
    }

    pub(super) fn hang(&self, name: &str) {
        self.change(name, |disk| Disk { hangs: true, ..disk });
    }

    pub(super) fn wake(&self, name: &str) {
        self.change(name, |disk| Disk { hangs: false, ..disk });
    }

    pub(super) fn slow(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    /// The calls of `read`, each as the stretches asked for.
    pub(super) fn calls(&self) -> Vec<Vec<String>> {
        self.calls.lock().unwrap().clone()
    }

    pub(super) fn forget_calls(&self) {
        self.calls.lock().unwrap().clear();
    }
}

fn name(device: &Path) -> &str {
    device.file_name().and_then(|name| name.to_str()).unwrap()
}

#[tonic::async_trait]
impl Kernel for Machine {
    async fn block_devices(&self) -> io::Result<Vec<BlockDevice>> {
        let disks = self.disks.lock().unwrap();
        let device = |(name, disk): (&String, &Disk)| BlockDevice {
            path: PathBuf::from("/dev").join(name),
            number: DeviceNumber { major: 8, minor: u32::from(name.as_bytes()[0]) },
            size: disk.bytes.len() as u64,
            is_component: disk.is_component,
            mapper_uuid: disk.mapper_uuid.clone(),
        };
        Ok(disks.iter().map(device).collect())
    }

    async fn read(&self, stretches: Vec<Stretch>) -> Vec<io::Result<Vec<u8>>> {
        let line = |stretch: &Stretch| format!("{} {}+{}", name(&stretch.device), stretch.offset, stretch.length);
        self.calls.lock().unwrap().push(stretches.iter().map(line).collect());
        let latency = *self.latency.lock().unwrap();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let mut disks = self.disks.lock().unwrap();
        let read = |stretch: &Stretch| match disks.get_mut(name(&stretch.device)) {
            Some(disk) if disk.hangs => Err(io::Error::new(io::ErrorKind::TimedOut, "the device does not answer")),
            Some(disk) => Ok(disk.read(stretch)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        stretches.iter().map(read).collect()
    }

    async fn mount(&self, _: &Mount) -> io::Result<()> {
        unimplemented!()
    }
    async fn unmount(&self, _: &Path) -> io::Result<()> {
        unimplemented!()
    }
    async fn mounts(&self) -> io::Result<Vec<MountEntry>> {
        unimplemented!()
    }
    async fn device_at(&self, _: &Path) -> io::Result<Option<DeviceNumber>> {
        unreachable!()
    }

    async fn usage(&self, _: &Path) -> io::Result<FileSystemUsage> {
        unimplemented!()
    }
    async fn zero(&self, _: Stretch) -> io::Result<()> {
        unimplemented!()
    }
    async fn discard(&self, _: Stretch) -> io::Result<()> {
        unimplemented!()
    }
    async fn hold(&self, _: &Path) -> io::Result<Held> {
        unimplemented!()
    }
    async fn flush(&self, _: &Path) -> io::Result<()> {
        unimplemented!()
    }
    async fn set_read_only(&self, _: &Path, _: bool) -> io::Result<()> {
        unimplemented!()
    }
    async fn mapped_devices(&self) -> io::Result<Vec<MappedDevice>> {
        unimplemented!()
    }
}

#[tonic::async_trait]
impl Commands for Machine {
    async fn run(&self, command: &Command) -> Result<Output, CommandError> {
        panic!("reading must start no process, but: {command}")
    }
}
