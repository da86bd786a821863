//! The live state of device-mapper's devices, as linux/dm-ioctl.h describes it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use nix::libc;

use super::super::kernel::{DeviceNumber, MappedDevice};
use super::system_calls::{self, MAPPER_HEADER};

const VERSION: u8 = 0;
const LIST_DEVICES: u8 = 2;
const DEVICE_STATUS: u8 = 7;

const READ_ONLY: u32 = 1 << 0;
const SUSPENDED: u32 = 1 << 1;
const BUFFER_FULL: u32 = 1 << 8;

/// The first buffer for the list, bytes: room for some 200 devices. It grows as needed.
const FIRST_BUFFER: usize = 16 << 10;
/// Where a list is nonsense, bytes.
const LAST_BUFFER: usize = 64 << 20;

/// `struct dm_ioctl`: only for the places of its fields.
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_number: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

const _: () = assert!(size_of::<Header>() == MAPPER_HEADER);
const _: () = assert!(std::mem::offset_of!(Header, device) == 40);
const _: () = assert!(std::mem::offset_of!(Header, data) == 305);

/// The version of the kernel's interface; `None` where the kernel has no device-mapper.
pub(super) fn version(control: &Path) -> io::Result<Option<[u32; 3]>> {
    let Some(control) = open(control)? else { return Ok(None) };
    let answer = ask(&control, VERSION, 0, MAPPER_HEADER)?;
    Ok(Some([u32_at(&answer, 0)?, u32_at(&answer, 4)?, u32_at(&answer, 8)?]))
}

/// All devices; none where the kernel has no device-mapper.
pub(super) fn devices(control: &Path) -> io::Result<Vec<MappedDevice>> {
    let Some(control) = open(control)? else { return Ok(Vec::new()) };
    let mut devices = Vec::new();
    for device in list(&control)? {
        match ask(&control, DEVICE_STATUS, device, MAPPER_HEADER) {
            Ok(answer) => devices.push(status(&answer)?),
            // Removed since the list was made.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(devices)
}

fn open(control: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).open(control) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => Ok(None),
        control => control.map(Some),
    }
}

fn list(control: &File) -> io::Result<Vec<u64>> {
    let mut size = FIRST_BUFFER;
    while size <= LAST_BUFFER {
        let answer = ask(control, LIST_DEVICES, 0, size)?;
        if u32_at(&answer, std::mem::offset_of!(Header, flags))? & BUFFER_FULL == 0 {
            return listed(&answer);
        }
        size *= 2;
    }
    Err(nonsense())
}

/// Devices are asked for by number, which a rename does not change; name and UUID come from the answer.
fn ask(control: &File, command: u8, device: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut buffer = request(device, size)?;
    system_calls::device_mapper(control, command, &mut buffer)?;
    Ok(buffer.into_iter().flat_map(u64::to_ne_bytes).collect())
}

fn request(device: u64, size: usize) -> io::Result<Vec<u64>> {
    let mut buffer = vec![0; size.div_ceil(8)];
    let word = |low: u32, high: u32| {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&low.to_ne_bytes());
        bytes[4..].copy_from_slice(&high.to_ne_bytes());
        u64::from_ne_bytes(bytes)
    };
    // Version 4.0.0, the oldest of this interface: later ones only add.
    buffer[0] = word(4, 0);
    buffer[1] = word(0, u32::try_from(size).map_err(io::Error::other)?);
    buffer[2] = word(u32::try_from(MAPPER_HEADER).map_err(io::Error::other)?, 0);
    buffer[std::mem::offset_of!(Header, device) / 8] = device;
    Ok(buffer)
}

/// The numbers in an answer to the list request: `struct dm_name_list`, each with the distance to the next.
fn listed(answer: &[u8]) -> io::Result<Vec<u64>> {
    let mut devices = Vec::new();
    let mut at = usize_at(answer, std::mem::offset_of!(Header, data_start))?;
    loop {
        let device = u64_at(answer, at)?;
        // A list without devices is one entry of zeroes.
        if device == 0 {
            return Ok(devices);
        }
        devices.push(device);
        match usize_at(answer, at + 8)? {
            0 => return Ok(devices),
            next => at += next,
        }
    }
}

fn status(answer: &[u8]) -> io::Result<MappedDevice> {
    let flags = u32_at(answer, std::mem::offset_of!(Header, flags))?;
    Ok(MappedDevice {
        name: text_at(answer, std::mem::offset_of!(Header, name), 128)?,
        uuid: text_at(answer, std::mem::offset_of!(Header, uuid), 129)?,
        number: number(u64_at(answer, std::mem::offset_of!(Header, device))?),
        open_count: u32_at(answer, std::mem::offset_of!(Header, open_count))?,
        suspended: flags & SUSPENDED != 0,
        read_only: flags & READ_ONLY != 0,
    })
}

/// The kernel's packing of a device number: 12 bits of the minor number lie above the major's.
fn number(packed: u64) -> DeviceNumber {
    let major = (packed >> 8) & 0xfff;
    let minor = (packed & 0xff) | ((packed >> 12) & 0xf_ff00);
    DeviceNumber { major: u32::try_from(major).unwrap_or(0), minor: u32::try_from(minor).unwrap_or(0) }
}

fn text_at(answer: &[u8], offset: usize, size: usize) -> io::Result<String> {
    let field = answer.get(offset..offset + size).ok_or_else(nonsense)?;
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn u32_at(answer: &[u8], offset: usize) -> io::Result<u32> {
    let bytes = answer.get(offset..offset.saturating_add(4)).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_ne_bytes).ok_or_else(nonsense)
}

fn usize_at(answer: &[u8], offset: usize) -> io::Result<usize> {
    usize::try_from(u32_at(answer, offset)?).map_err(io::Error::other)
}

fn u64_at(answer: &[u8], offset: usize) -> io::Result<u64> {
    let bytes = answer.get(offset..offset.saturating_add(8)).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_ne_bytes).ok_or_else(nonsense)
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "device-mapper's answer is not understood")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `huge_encode_dev` of the kernel packs it.
    fn packed(major: u64, minor: u64) -> u64 {
        (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
    }

    fn answer_with(list: &[(u64, &str)]) -> Vec<u8> {
        let mut answer: Vec<u8> = request(0, MAPPER_HEADER).unwrap().into_iter().flat_map(u64::to_ne_bytes).collect();
        for (index, (device, name)) in list.iter().enumerate() {
            let size = (12 + name.len() + 1).next_multiple_of(8);
            let next = if index + 1 == list.len() { 0 } else { u32::try_from(size).unwrap() };
            let mut entry = device.to_ne_bytes().to_vec();
            entry.extend(next.to_ne_bytes());
            entry.extend(name.bytes());
            entry.resize(size, 0);
            answer.extend(entry);
        }
        answer
    }

    #[test]
    fn a_kernel_without_device_mapper_has_no_devices() {
        assert_eq!(devices(Path::new("/nonexistent/control")).unwrap(), []);
        assert_eq!(version(Path::new("/nonexistent/control")).unwrap(), None);
    }

    #[test]
    fn a_list_is_followed_from_entry_to_entry() {
        assert_eq!(listed(&answer_with(&[(0, "")])).unwrap(), Vec::<u64>::new());
        let list = [(packed(254, 0), "data-a"), (packed(254, 1), "data-long--name"), (packed(254, 300), "c")];
        let numbers: Vec<DeviceNumber> = listed(&answer_with(&list)).unwrap().into_iter().map(number).collect();
        assert_eq!(numbers, [0, 1, 300].map(|minor| DeviceNumber { major: 254, minor }));
    }

    #[test]
    fn a_list_that_leads_out_of_the_answer_is_an_error() {
        let mut answer = answer_with(&[(packed(254, 0), "a"), (packed(254, 1), "b")]);
        answer[MAPPER_HEADER + 8..MAPPER_HEADER + 12].copy_from_slice(&u32::MAX.to_ne_bytes());
        listed(&answer).unwrap_err();
        status(&answer[..100]).unwrap_err();
    }

    #[test]
    fn a_status_is_read_from_its_fields() {
        let mut answer = answer_with(&[]);
        answer[24..28].copy_from_slice(&3_i32.to_ne_bytes());
        answer[28..32].copy_from_slice(&(SUSPENDED | 1 << 5).to_ne_bytes());
        answer[40..48].copy_from_slice(&packed(254, 1_000_000).to_ne_bytes());
        answer[48..54].copy_from_slice(b"data-a");
        answer[176..181].copy_from_slice(b"LVM-x");
        let expected = MappedDevice {
            name: "data-a".into(),
            uuid: "LVM-x".into(),
            number: DeviceNumber { major: 254, minor: 1_000_000 },
            open_count: 3,
            suspended: true,
            read_only: false,
        };
        assert_eq!(status(&answer).unwrap(), expected);
    }
}
