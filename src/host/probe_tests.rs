use std::io;

use super::super::commands::Output;
use super::super::kernel::{BlockDevice, FileSystemUsage, MappedDevice, Mount, MountEntry};
use super::*;

/// blkid's answer.
struct Blkid(Option<i32>, &'static str);

#[tonic::async_trait]
impl Commands for Blkid {
    async fn run(&self, command: &Command) -> Result<Output, CommandError> {
        assert_eq!(command.to_string(), "blkid -p -o export /dev/dm-3");
        Ok(Output { status: self.0, stdout: self.1.into(), stderr: "why\n".into() })
    }
}

/// A device with these bytes; `None` is one that cannot be read.
struct Device(Option<Vec<u8>>);

#[tonic::async_trait]
impl Kernel for Device {
    async fn read(&self, stretches: Vec<Stretch>) -> Vec<io::Result<Vec<u8>>> {
        let read = |stretch: &Stretch| {
            assert_eq!((stretch.offset % 4096, stretch.length % 4096), (0, 0));
            let bytes = self.0.as_ref().ok_or(io::ErrorKind::TimedOut)?;
            let length = usize::try_from(stretch.length).map_err(io::Error::other)?;
            Ok(bytes.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
        };
        stretches.iter().map(read).collect()
    }

    async fn mount(&self, _: &Mount) -> io::Result<()> {
        unreachable!()
    }
    async fn unmount(&self, _: &Path) -> io::Result<()> {
        unreachable!()
    }
    async fn mounts(&self) -> io::Result<Vec<MountEntry>> {
        unreachable!()
    }
    async fn usage(&self, _: &Path) -> io::Result<FileSystemUsage> {
        unreachable!()
    }
    async fn block_devices(&self) -> io::Result<Vec<BlockDevice>> {
        unreachable!()
    }
    async fn zero(&self, _: Stretch) -> io::Result<()> {
        unreachable!()
    }
    async fn discard(&self, _: Stretch) -> io::Result<()> {
        unreachable!()
    }
    async fn flush(&self, _: &Path) -> io::Result<()> {
        unreachable!()
    }
    async fn set_read_only(&self, _: &Path, _: bool) -> io::Result<()> {
        unreachable!()
    }
    async fn mapped_devices(&self) -> io::Result<Vec<MappedDevice>> {
        unreachable!()
    }
}

async fn probed(blkid: Blkid, bytes: Option<Vec<u8>>, size: u64) -> Result<Content> {
    probe(&blkid, &Device(bytes), Path::new("/dev/dm-3"), size).await
}

const SIZE: u64 = 4 << 20;

fn zeroes() -> Vec<u8> {
    vec![0; 4 << 20]
}

#[tokio::test]
async fn a_device_is_blank_only_when_blkid_and_our_own_eyes_agree() {
    assert_eq!(probed(Blkid(Some(2), ""), Some(zeroes()), SIZE).await.unwrap(), Content::Blank);
    let mut dirty = zeroes();
    dirty[(1 << 20) - 1] = 1;
    assert_eq!(probed(Blkid(Some(2), ""), Some(dirty), SIZE).await.unwrap(), Content::Other("unknown data".into()));
    let raid = Blkid(Some(0), "TYPE=linux_raid_member\nUSAGE=raid\n");
    let member = Content::Other("a member of a RAID".into());
    assert_eq!(probed(raid, Some(zeroes()), SIZE).await.unwrap(), member);
}

#[tokio::test]
async fn a_device_that_cannot_be_read_is_never_blank() {
    let error = probed(Blkid(Some(2), ""), None, SIZE).await.unwrap_err();
    assert!(matches!(error, Error::Kernel { .. }), "{error}");
    probed(Blkid(Some(2), ""), Some(Vec::new()), SIZE).await.unwrap_err();
    probed(Blkid(Some(2), ""), Some(zeroes()), 0).await.unwrap_err();
}

#[tokio::test]
async fn a_device_that_blkid_cannot_judge_is_never_blank() {
    for status in [Some(1), Some(4), None] {
        let error = probed(Blkid(status, ""), Some(zeroes()), SIZE).await.unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
    let content = probed(Blkid(Some(8), ""), Some(zeroes()), SIZE).await.unwrap();
    assert!(matches!(content, Content::Other(_)));
}

#[tokio::test]
async fn a_small_device_is_read_as_far_as_it_goes() {
    let content = probed(Blkid(Some(2), ""), Some(vec![0; 8192]), 8192 + 512).await.unwrap();
    assert_eq!(content, Content::Blank);
}

#[test]
fn what_blkid_says_is_put_into_words() {
    let words = [
        ("DEVNAME=/dev/x\nTYPE=LVM2_member\nUSAGE=raid\n", "an LVM physical volume"),
        ("TYPE=crypto_LUKS\nUSAGE=crypto\n", "a LUKS container"),
        ("TYPE=vfat\nUSAGE=filesystem\n", "a file system of type vfat"),
        ("TYPE=isw_raid_member\nUSAGE=raid\n", "data of type isw_raid_member"),
        ("PTTYPE=gpt\n", "a partition table (gpt)"),
        ("TYPE=vfat\nPTTYPE=dos\nUSAGE=filesystem\n", "a file system of type vfat and a partition table (dos)"),
        ("", "a signature that blkid knows"),
    ];
    for (export, description) in words {
        assert_eq!(describe(export), description);
    }
}
