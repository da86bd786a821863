use std::io;
use std::sync::Mutex;

use super::*;
use crate::host::commands::Output;
use crate::host::kernel::{BlockDevice, DeviceNumber, FileSystemUsage, Held, MappedDevice, Mount, MountEntry};

/// A device in memory; reads fail from a given offset on, and may come short.
struct Device {
    bytes: Vec<u8>,
    fails_from: u64,
    lacks: usize,
}

impl Device {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, fails_from: u64::MAX, lacks: 0 }
    }

    fn one(&self, stretch: &Stretch) -> io::Result<Vec<u8>> {
        assert_eq!((stretch.offset % 4096, stretch.length % 4096), (0, 0));
        if stretch.offset + stretch.length > self.fails_from {
            return Err(io::Error::other("medium error"));
        }
        let start = usize::try_from(stretch.offset).unwrap();
        let length = usize::try_from(stretch.length).unwrap();
        Ok(self.bytes[start..start + length - self.lacks].to_vec())
    }
}

fn unused<T>() -> io::Result<T> {
    Err(io::Error::other("probing must only read"))
}

#[tonic::async_trait]
impl Kernel for Device {
    async fn mount(&self, _: &Mount) -> io::Result<()> {
        unused()
    }
    async fn unmount(&self, _: &Path) -> io::Result<()> {
        unused()
    }
    async fn mounts(&self) -> io::Result<Vec<MountEntry>> {
        unused()
    }
    async fn device_at(&self, _: &Path) -> io::Result<Option<DeviceNumber>> {
        unused()
    }

    async fn usage(&self, _: &Path) -> io::Result<FileSystemUsage> {
        unused()
    }
    async fn block_devices(&self) -> io::Result<Vec<BlockDevice>> {
        unused()
    }
    async fn read(&self, stretches: Vec<Stretch>) -> Vec<io::Result<Vec<u8>>> {
        stretches.iter().map(|stretch| self.one(stretch)).collect()
    }
    async fn zero(&self, _: Stretch) -> io::Result<()> {
        unused()
    }
    async fn discard(&self, _: Stretch) -> io::Result<()> {
        unused()
    }
    async fn hold(&self, _: &Path) -> io::Result<Held> {
        unused()
    }
    async fn flush(&self, _: &Path) -> io::Result<()> {
        unused()
    }
    async fn set_read_only(&self, _: &Path, _: bool) -> io::Result<()> {
        unused()
    }
    async fn mapped_devices(&self) -> io::Result<Vec<MappedDevice>> {
        unused()
    }
}

/// blkid with one answer; remembers how it was started.
struct Blkid {
    status: Option<i32>,
    stdout: &'static str,
    started: Mutex<Vec<String>>,
}

impl Blkid {
    fn answering(status: Option<i32>, stdout: &'static str) -> Self {
        Self { status, stdout, started: Mutex::new(Vec::new()) }
    }

    fn started(&self) -> Vec<String> {
        self.started.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl Commands for Blkid {
    async fn run(&self, command: &Command) -> Result<Output, CommandError> {
        self.started.lock().unwrap().push(command.to_string());
        Ok(Output { status: self.status, stdout: self.stdout.into(), stderr: String::new() })
    }
}

async fn probed(device: &Device, blkid: &Blkid) -> Result<Content> {
    let bytes = u64::try_from(device.bytes.len()).unwrap();
    probe(device, blkid, Path::new("/dev/x"), bytes).await
}

#[tokio::test]
async fn a_device_of_zeroes_is_blank_without_asking_blkid() {
    for length in [4096, 8191, 1 << 20, (4 << 20) + 512] {
        let blkid = Blkid::answering(None, "");
        assert_eq!(probed(&Device::new(vec![0; length]), &blkid).await.unwrap(), Content::Blank);
        assert_eq!(blkid.started(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn one_byte_at_either_end_makes_it_other() {
    let length = 4 << 20;
    for offset in [0, (1 << 20) - 1, length - (64 << 10), length - 1] {
        let mut device = Device::new(vec![0; length]);
        device.bytes[offset] = 1;
        let blkid = Blkid::answering(Some(2), "");
        let content = probed(&device, &blkid).await.unwrap();
        assert_eq!(content, Content::Other(String::from("data of unknown kind")));
        assert_eq!(blkid.started(), ["blkid -p -o export /dev/x"]);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_never_blank() {
    let blkid = Blkid::answering(Some(2), "");
    for fails_from in [0, 4096, 3 << 20] {
        let device = Device { bytes: vec![0; 4 << 20], fails_from, lacks: 0 };
        assert!(probed(&device, &blkid).await.unwrap_err().to_string().contains("medium error"));
    }
    let short = Device { bytes: vec![0; 4 << 20], fails_from: u64::MAX, lacks: 1 };
    assert!(probed(&short, &blkid).await.is_err());
    assert!(probed(&Device::new(vec![0; 4095]), &blkid).await.is_err());
}

#[tokio::test]
async fn a_known_file_system_is_reported_without_asking_blkid() {
    let mut device = Device::new(vec![0; 4 << 20]);
    device.bytes[..16].copy_from_slice(b"XFSB\0\0\x10\0\0\0\0\0\0\x01\0\0");
    let blkid = Blkid::answering(None, "");
    let Content::FileSystem(found) = probed(&device, &blkid).await.unwrap() else { panic!("not recognised") };
    assert_eq!(found.bytes, 256 << 20);
    assert_eq!(blkid.started(), Vec::<String>::new());
}

#[tokio::test]
async fn what_blkid_says_is_put_in_words() {
    for (status, stdout, words) in [
        (0, "DEVNAME=/dev/x\nTYPE=crypto_LUKS\n", "LUKS encryption"),
        (0, "TYPE=LVM2_member\n", "an LVM physical volume"),
        (0, "TYPE=swap\n", "swap space"),
        (0, "PTUUID=1\nPTTYPE=gpt\n", "a gpt partition table"),
        (0, "TYPE=zfs_member\n", "a part of something larger (zfs_member)"),
        (0, "TYPE=vfat\nPTTYPE=dos\n", "a file system or other data of type vfat"),
        (0, "TYPE=\n", "data of unknown kind"),
        (8, "", "several signatures"),
    ] {
        let device = Device::new(vec![1; 4096]);
        let content = probed(&device, &Blkid::answering(Some(status), stdout)).await.unwrap();
        assert_eq!(content, Content::Other(words.to_owned()));
    }
    for status in [None, Some(4)] {
        let device = Device::new(vec![1; 4096]);
        assert!(probed(&device, &Blkid::answering(status, "")).await.is_err());
    }
}
