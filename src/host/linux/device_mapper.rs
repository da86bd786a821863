//! The live state of device-mapper's devices, as linux/dm-ioctl.h describes it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use nix::libc;

use super::super::kernel::{DeviceNumber, MappedDevice};
use super::system_calls::{self, MAPPER_HEADER};

const VERSION: u8 = 0;
const LIST_DEVICES: u8 = 2;
const DEVICE_STATUS: u8 = 7;
const TARGET_VERSION: u8 = 17;

const READ_ONLY: u32 = 1 << 0;
const SUSPENDED: u32 = 1 << 1;
const BUFFER_FULL: u32 = 1 << 8;
/// In a request for the list: with the UUIDs. Kernels from 5.13 on tell them, by this minor version of the interface.
const WITH_UUIDS: u32 = 1 << 14;
const VERSION_WITH_UUIDS: u32 = 45;
/// In an entry of the list: the UUID follows.
const HAS_UUID: u32 = 1 << 0;

/// Bytes of a UUID, its closing zero included.
const UUID_SIZE: usize = 129;

/// The first buffer for the list, bytes: room for some 200 devices. It grows as needed.
const FIRST_BUFFER: usize = 32 << 10;
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
    uuid: [u8; UUID_SIZE],
    data: [u8; 7],
}

const _: () = assert!(size_of::<Header>() == MAPPER_HEADER);
const _: () = assert!(std::mem::offset_of!(Header, device) == 40);
const _: () = assert!(std::mem::offset_of!(Header, data) == 305);

/// The version of the kernel's interface; `None` where the kernel has no device-mapper.
pub(super) fn version(control: &Path) -> io::Result<Option<[u32; 3]>> {
    let Some(control) = open(control)? else { return Ok(None) };
    let answer = ask(&control, VERSION, Request::default(), MAPPER_HEADER)?;
    Ok(Some([u32_at(&answer, 0)?, u32_at(&answer, 4)?, u32_at(&answer, 8)?]))
}

/// Whether the kernel has targets of that type. It looks for a module first, by starting the machine's own modprobe, also when
/// a container asks, which has none. Linux 5.4.
pub(super) fn has_target(control: &Path, target: &str) -> io::Result<bool> {
    let Some(control) = open(control)? else { return Ok(false) };
    match ask(&control, TARGET_VERSION, Request { name: target, ..Request::default() }, MAPPER_HEADER) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// All devices; none where the kernel has no device-mapper.
pub(super) fn devices(control: &Path) -> io::Result<Vec<MappedDevice>> {
    let Some(control) = open(control)? else { return Ok(Vec::new()) };
    let mut devices = Vec::new();
    for listed in list(&control)? {
        // By number, which a rename does not change; name and UUID come from the answer.
        devices.extend(ask_status(&control, Request { device: listed.device, ..Request::default() })?);
    }
    Ok(devices)
}

/// The device of that UUID.
pub(super) fn device(control: &Path, uuid: &str) -> io::Result<Option<MappedDevice>> {
    // The kernel's field ends with a zero byte; no device can have a longer one.
    if uuid.is_empty() || uuid.len() >= UUID_SIZE {
        return Ok(None);
    }
    let Some(control) = open(control)? else { return Ok(None) };
    ask_status(&control, Request { uuid, ..Request::default() })
}

/// The names in `/sys/class/block` of LVM's volumes, in one request: reading the UUID of each from its file
/// is five system calls, and a node has hundreds. Empty where the kernel tells no UUIDs here.
pub(super) fn logical_volumes(control: &Path) -> io::Result<HashSet<String>> {
    let Some(control) = open(control)? else { return Ok(HashSet::new()) };
    let volumes = list(&control)?.into_iter().filter(|listed| listed.uuid.starts_with("LVM-"));
    Ok(volumes.map(|listed| format!("dm-{}", number(listed.device).minor)).collect())
}

pub(super) fn open(control: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).open(control) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => Ok(None),
        control => control.map(Some),
    }
}

/// The state of one device; nothing when it is not there or was removed meanwhile.
fn ask_status(control: &File, request: Request<'_>) -> io::Result<Option<MappedDevice>> {
    match ask(control, DEVICE_STATUS, request, MAPPER_HEADER) {
        Ok(answer) => status(&answer).map(Some),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

fn list(control: &File) -> io::Result<Vec<Listed>> {
    let mut size = FIRST_BUFFER;
    while size <= LAST_BUFFER {
        let answer = ask(control, LIST_DEVICES, Request { flags: WITH_UUIDS, ..Request::default() }, size)?;
        if !has_more(&answer)? {
            return listed(&answer);
        }
        size *= 4;
    }
    Err(nonsense())
}

/// Whether the buffer was too small for the answer.
pub(super) fn has_more(answer: &[u8]) -> io::Result<bool> {
    Ok(u32_at(answer, std::mem::offset_of!(Header, flags))? & BUFFER_FULL != 0)
}

/// Where in an answer what it says begins.
pub(super) fn data_start(answer: &[u8]) -> io::Result<usize> {
    usize_at(answer, std::mem::offset_of!(Header, data_start))
}

/// What is asked: all devices, or one by its number or its UUID; or a type of targets by its name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Request<'r> {
    pub(super) flags: u32,
    pub(super) device: u64,
    pub(super) name: &'r str,
    pub(super) uuid: &'r str,
    /// What stands behind the header.
    pub(super) data: &'r [u8],
}

pub(super) fn ask(control: &File, command: u8, request: Request<'_>, size: usize) -> io::Result<Vec<u8>> {
    let mut buffer = request.packed(size)?;
    system_calls::device_mapper(control, command, &mut buffer)?;
    Ok(buffer)
}

impl Request<'_> {
    fn packed(self, size: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
        // Version 4.0.0, the oldest of this interface: later ones only add.
        put(0, &4_u32.to_ne_bytes());
        put(std::mem::offset_of!(Header, data_size), &u32::try_from(size).map_err(io::Error::other)?.to_ne_bytes());
        let start = u32::try_from(MAPPER_HEADER).map_err(io::Error::other)?;
        put(std::mem::offset_of!(Header, data_start), &start.to_ne_bytes());
        put(std::mem::offset_of!(Header, flags), &self.flags.to_ne_bytes());
        put(std::mem::offset_of!(Header, device), &self.device.to_ne_bytes());
        put(std::mem::offset_of!(Header, name), self.name.as_bytes());
        put(std::mem::offset_of!(Header, uuid), self.uuid.as_bytes());
        put(MAPPER_HEADER, self.data);
        Ok(bytes)
    }
}

/// A device in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    device: u64,
    /// Empty where it has none or the kernel does not tell.
    uuid: String,
}

/// The entries of an answer to the list request: `struct dm_name_list`, each with the distance to the next.
/// Behind the name, at a multiple of 8 bytes, lie a count of events, flags and the UUID.
fn listed(answer: &[u8]) -> io::Result<Vec<Listed>> {
    let mut devices = Vec::new();
    let tells_uuids = u32_at(answer, 4)? >= VERSION_WITH_UUIDS;
    let mut at = data_start(answer)?;
    loop {
        let device = u64_at(answer, at)?;
        // A list without devices is one entry of zeroes.
        if device == 0 {
            return Ok(devices);
        }
        let name = answer.get(at + 12..).and_then(|rest| rest.iter().position(|byte| *byte == 0));
        let behind = (at + 12 + name.ok_or_else(nonsense)? + 1).next_multiple_of(8);
        let has_uuid = tells_uuids && u32_at(answer, behind + 4)? & HAS_UUID != 0;
        let uuid = if has_uuid { text_at(answer, behind + 8, UUID_SIZE)? } else { String::new() };
        devices.push(Listed { device, uuid });
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
        uuid: text_at(answer, std::mem::offset_of!(Header, uuid), UUID_SIZE)?,
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

pub(super) fn text_at(answer: &[u8], offset: usize, size: usize) -> io::Result<String> {
    let field = answer.get(offset..).ok_or_else(nonsense)?;
    let field = &field[..field.len().min(size)];
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

pub(super) fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "device-mapper's answer is not understood")
}

#[cfg(test)]
#[path = "device_mapper_tests.rs"]
mod tests;
