//! Block devices: which there are, reading and overwriting them. Everything here may block.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::libc;

use super::super::kernel::{BlockDevice, DeviceNumber, Stretch};
use super::system_calls;

/// What `O_DIRECT` may ask of addresses, offsets and lengths, bytes: no device's block is larger here.
const ALIGNMENT: usize = 4096;
/// One request to the kernel; a task that waits for a whole terabyte could not be ended in between.
const ZERO_AT_ONCE: u64 = 128 << 20;
/// As above; discarding is quick.
const DISCARD_AT_ONCE: u64 = 8 << 30;
/// How much is written at once where the kernel cannot zero by itself, bytes.
const WRITE_AT_ONCE: u64 = 1 << 20;
/// The unit of `/sys/class/block/*/size`, bytes, whatever the device's own block size.
const SECTOR: u64 = 512;

/// The number of a block device node.
pub(super) fn number_at(path: &Path) -> io::Result<Option<DeviceNumber>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.file_type().is_block_device() {
        return Ok(None);
    }
    let number = |part: u64| u32::try_from(part).map_err(io::Error::other);
    Ok(Some(DeviceNumber {
        major: number(nix::sys::stat::major(metadata.rdev()))?,
        minor: number(nix::sys::stat::minor(metadata.rdev()))?,
    }))
}

/// All block devices with room in the order of their names, but `volumes`: LVM's own, named as in
/// `/sys/class/block`. There are hundreds of those, as devices and as holders of a physical volume, and every call
/// of the driver comes by here.
pub(super) fn devices(sys: &Path, dev: &Path, volumes: &HashSet<String>) -> io::Result<Vec<BlockDevice>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(sys.join("class/block"))? {
        let entry = entry?;
        if !is_among(&entry.file_name(), volumes) {
            folders.push(entry.path());
        }
    }
    folders.sort();
    let mut devices = Vec::with_capacity(folders.len());
    for folder in folders {
        match device(&folder, dev, volumes) {
            Ok(device) => devices.extend(device),
            // Devices come and go while the folder is read.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(devices)
}

/// A device; nothing for one without room, or that nobody can open. Its size is the first question.
fn device(folder: &Path, dev: &Path, volumes: &HashSet<String>) -> io::Result<Option<BlockDevice>> {
    if is_idle_loop(folder) {
        return Ok(None);
    }
    let size = sectors(folder)? * SECTOR;
    if size == 0 {
        return Ok(None);
    }
    let event = attribute(&folder.join("uevent"))?;
    if event.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let value = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    if value("MAJOR").is_none() {
        // A path of an NVMe disk that is reached by several: the kernel hides it, and it has no number.
        return Ok(None);
    }
    let number = |name: &str| value(name).and_then(|text| text.parse().ok()).ok_or_else(|| not_understood(folder));
    Ok(Some(BlockDevice {
        path: dev.join(value("DEVNAME").ok_or_else(|| not_understood(folder))?),
        number: DeviceNumber { major: number("MAJOR")?, minor: number("MINOR")? },
        size,
        is_component: is_component(folder, volumes)?,
        mapper_uuid: mapper_uuid(folder)?,
    }))
}

/// Whether it is a loop device that shows no file. A machine has several, and this is one system call instead of the three that
/// their size would take.
fn is_idle_loop(folder: &Path) -> bool {
    let name = folder.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let number = name.strip_prefix("loop").unwrap_or_default();
    let is_loop = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_loop && std::fs::exists(folder.join("loop")).is_ok_and(|shows| !shows)
}

fn is_among(name: &OsStr, volumes: &HashSet<String>) -> bool {
    name.to_str().is_some_and(|name| volumes.contains(name))
}

/// A file of `/sys`: at most a page, and the kernel gives all of it to one read. `std::fs::read_to_string` would
/// ask for its size before and for its end after.
fn attribute(path: &Path) -> io::Result<String> {
    let mut bytes = [0; 4096];
    let length = File::open(path)?.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

fn sectors(folder: &Path) -> io::Result<u64> {
    let text = attribute(&folder.join("size"))?;
    text.trim().parse().map_err(|_| not_understood(folder))
}

fn is_component(folder: &Path, volumes: &HashSet<String>) -> io::Result<bool> {
    let holders = match std::fs::read_dir(folder.join("holders")) {
        Err(error) if is_gone(&error) => return Ok(false),
        holders => holders?,
    };
    for holder in holders {
        let holder = holder?;
        if is_among(&holder.file_name(), volumes) {
            continue;
        }
        match mapper_uuid(&holder.path()) {
            Ok(Some(uuid)) if uuid.starts_with("LVM-") => {}
            Ok(_) => return Ok(true),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// An error that means "gone" for a device-mapper device that is just being set up or torn down: it is held by those
/// below it before it has attributes, and after it has lost them.
fn mapper_uuid(folder: &Path) -> io::Result<Option<String>> {
    if !folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"dm-")) {
        return Ok(None);
    }
    let uuid = attribute(&folder.join("dm/uuid"))?;
    Ok(Some(uuid.trim_end().to_owned()).filter(|uuid| !uuid.is_empty()))
}

/// A device that goes away while it is looked at: its attributes answer `EINVAL` where its driver has let go
/// of it already (device-mapper does).
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL))
}

fn not_understood(folder: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is not understood", folder.display()))
}

/// Reads a stretch past the page cache where the device allows it.
pub(super) fn read(stretch: &Stretch) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stretch.length).map_err(io::Error::other)?;
    match open_direct(&stretch.device, false).and_then(|device| read_aligned(&device, stretch.offset, length)) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        result => return result,
    }
    let device = File::open(&stretch.device)?;
    let range = (signed(stretch.offset)?, signed(stretch.length)?);
    posix_fadvise(&device, range.0, range.1, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    let mut bytes = vec![0; length];
    device.read_exact_at(&mut bytes, stretch.offset)?;
    Ok(bytes)
}

fn open_direct(device: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(!write).write(write).custom_flags(libc::O_DIRECT).open(device)
}

fn read_aligned(device: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0_u8; length + ALIGNMENT];
    let start = bytes.as_ptr().align_offset(ALIGNMENT);
    device.read_exact_at(&mut bytes[start..start + length], offset)?;
    bytes.copy_within(start..start + length, 0);
    bytes.truncate(length);
    Ok(bytes)
}

/// Opened for what destroys. Not with `O_EXCL`, which would refuse a mounted device: a program that another thread starts
/// meanwhile has the file, too, until it runs, and mkfs would find the device claimed although it was closed here.
fn open_to_write(device: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(device)
}

/// Overwrites a stretch with zeroes.
pub(super) fn zero(stretch: &Stretch) -> io::Result<()> {
    let device = open_to_write(&stretch.device)?;
    in_pieces(stretch, ZERO_AT_ONCE, |offset, length| {
        // Not PUNCH_HOLE: a device may drop the data without promising zeroes, or give back what a thin
        // pool has already set aside.
        match fallocate(&device, FallocateFlags::FALLOC_FL_ZERO_RANGE, signed(offset)?, signed(length)?) {
            Err(Errno::EOPNOTSUPP | Errno::ENODEV) => write_zeroes(&device, offset, length),
            result => Ok(result?),
        }
    })
}

fn write_zeroes(device: &File, offset: u64, length: u64) -> io::Result<()> {
    let zeroes = vec![0; usize::try_from(length.min(WRITE_AT_ONCE)).map_err(io::Error::other)?];
    let stretch = Stretch { device: Path::new("").to_owned(), offset, length };
    in_pieces(&stretch, WRITE_AT_ONCE, |offset, length| {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        device.write_all_at(&zeroes[..length], offset)
    })?;
    // What the page cache still holds is not on its way yet, and an error would come to light nowhere else.
    device.sync_data()
}

/// Tells the device that a stretch is not needed any more; `Unsupported` where it has no use for that.
pub(super) fn discard(stretch: &Stretch) -> io::Result<()> {
    let device = open_to_write(&stretch.device)?;
    in_pieces(stretch, DISCARD_AT_ONCE, |offset, length| system_calls::discard(&device, offset, length))
}

/// Flushes the page cache of a device and the device's own cache. Opened for reading only: closing a
/// device that was open for writing makes udev look at it anew.
pub(super) fn flush(device: &Path) -> io::Result<()> {
    File::open(device)?.sync_all()
}

/// Makes a device refuse writes, or take them again.
pub(super) fn set_read_only(device: &Path, read_only: bool) -> io::Result<()> {
    system_calls::set_read_only(&File::open(device)?, read_only)
}

fn in_pieces(stretch: &Stretch, piece: u64, mut act: impl FnMut(u64, u64) -> io::Result<()>) -> io::Result<()> {
    let end = stretch.offset.checked_add(stretch.length).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut offset = stretch.offset;
    while offset < end {
        let length = piece.min(end - offset);
        act(offset, length)?;
        offset += length;
    }
    Ok(())
}

fn signed(number: u64) -> io::Result<i64> {
    i64::try_from(number).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
