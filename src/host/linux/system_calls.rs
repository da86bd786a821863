//! The system calls for which `nix` has no safe function: ioctls on block devices and on device-mapper,
//! the two calls that give a mount its flags before anybody can see it, the settings of the allocator
//! and of the program's own pages, and waiting for a file. Nothing else is unsafe.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_long};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Keeps the C library from holding on to memory that is free: one heap for all threads instead of eight per processor,
/// and large buffers (the metadata of a group, a list of volumes) go back at once. Before other threads run.
#[cfg(target_env = "gnu")]
pub(crate) fn hold_little_memory() {
    for (parameter, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, 64 << 10), (libc::M_TRIM_THRESHOLD, 128 << 10)]
    {
        // SAFETY: changes settings of the allocator; it takes any parameter and any value, and says no to what it
        // does not know.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives back what lies free between what is used: a burst of creations leaves the heap full of holes, since each
/// reads the group anew (6 of 10 MiB after 500).
#[cfg(target_env = "gnu")]
pub(crate) fn give_memory_back() {
    // SAFETY: takes the allocator's own locks and touches nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries hold little by themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn hold_little_memory() {}

/// As above.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_memory_back() {}

/// Gives back the pages of the program's own code and constants: half of what a node maps at its start it never needs again,
/// nor what a rare call brought in with its neighbours. What is needed is mapped again, from the page cache or the file. A
/// failure costs only memory.
pub(crate) fn give_code_back() {
    let (Ok(program), Ok(maps)) = (fs::read_link("/proc/self/exe"), fs::read_to_string("/proc/self/maps")) else {
        return;
    };
    // proc_pid_maps(5): `START-END PERMISSIONS OFFSET DEVICE INODE PATH`, the addresses in hexadecimal.
    for map in maps.lines() {
        let words: Vec<&str> = map.split_whitespace().collect();
        // The code, and the first segment: constants, and tables that only a panic reads. What the loader has written to
        // (relocations) lies in later segments.
        let ([range, "r-xp", _, _, _, path] | [range, "r--p", "00000000", _, _, path]) = words[..] else { continue };
        let address = |text: &str| usize::from_str_radix(text, 16).ok();
        let range = range.split_once('-').and_then(|(start, end)| Some((address(start)?, address(end)?)));
        let Some((start, end)) = range.filter(|_| Path::new(path) == program) else { continue };
        // SAFETY: a private mapping of a file that was never written to (it is not writable, and neither code nor constants
        // are relocated): MADV_DONTNEED (madvise(2)) leaves it mapped, and the same pages of the file come back when they
        // are touched.
        unsafe { libc::madvise(ptr::without_provenance_mut(start), end - start, libc::MADV_DONTNEED) };
    }
}

/// `BLKDISCARD` and `BLKROSET` of linux/fs.h: `_IO(0x12, n)`.
const BLKDISCARD: u32 = 119;
const BLKROSET: u32 = 93;

mod generated {
    nix::ioctl_write_ptr_bad!(discard, nix::request_code_none!(0x12, super::BLKDISCARD), [u64; 2]);
    nix::ioctl_write_ptr_bad!(set_read_only, nix::request_code_none!(0x12, super::BLKROSET), std::ffi::c_int);
}

/// Discards `length` bytes from `offset` on of a block device.
pub(super) fn discard(device: &File, offset: u64, length: u64) -> io::Result<()> {
    let range = [offset, length];
    // SAFETY: the kernel reads two u64, which is what the reference points to, and keeps no pointer.
    unsafe { generated::discard(device.as_raw_fd(), &raw const range) }?;
    Ok(())
}

/// Makes a block device refuse writes, or take them.
pub(super) fn set_read_only(device: &File, read_only: bool) -> io::Result<()> {
    let value = c_int::from(read_only);
    // SAFETY: the kernel reads one int, which is what the reference points to, and keeps no pointer.
    unsafe { generated::set_read_only(device.as_raw_fd(), &raw const value) }?;
    Ok(())
}

/// The size of `struct dm_ioctl` (linux/dm-ioctl.h), bytes; part of the number of each request.
pub(super) const MAPPER_HEADER: usize = 312;

/// Sends one request to device-mapper. `buffer` starts with a `struct dm_ioctl`; the answer takes its place.
pub(super) fn device_mapper(control: &File, command: u8, buffer: &mut [u8]) -> io::Result<()> {
    // `data_size` is the fourth 32-bit word: what the kernel believes the buffer's size to be.
    let claimed = buffer.get(12..16).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let claimed = claimed.ok_or(io::ErrorKind::InvalidInput)?;
    let claimed = usize::try_from(claimed).map_err(io::Error::other)?;
    if claimed < MAPPER_HEADER || claimed > buffer.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the request's size is not the buffer's"));
    }
    let request = nix::request_code_readwrite!(0xfd, command, MAPPER_HEADER);
    // SAFETY: device-mapper reads and writes `data_size` bytes from the pointer on, which was checked just
    // above to lie within the buffer, which is borrowed exclusively; it copies them, and so asks for no alignment.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), request, buffer.as_mut_ptr()) };
    Errno::result(result)?;
    Ok(())
}

/// Lets tasks wait until a file that the kernel can poll is readable.
pub(super) fn readable(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a file has the same open descriptor as long as it lives, and the answer owns it.
    Ok(unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }?)
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
pub(super) struct MountAttributes {
    pub(super) set: u64,
    pub(super) clear: u64,
    pub(super) propagation: u64,
    pub(super) user_namespace: u64,
}

const _: () = assert!(size_of::<MountAttributes>() == 32);

/// linux/mount.h; `AT_EMPTY_PATH` is linux/fcntl.h's.
const OPEN_TREE_CLONE: c_int = 1;
const OPEN_TREE_CLOEXEC: c_int = libc::O_CLOEXEC;
const MOVE_MOUNT_F_EMPTY_PATH: c_int = 4;

/// A copy of the mount that `path` lies on, rooted at `path` and attached nowhere; it goes away with the
/// descriptor. Linux 5.2.
pub(super) fn clone_mount(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    // SAFETY: `path` ends with a zero byte and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let descriptor = c_int::try_from(succeeded(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Changes the flags of one mount. Linux 5.12.
pub(super) fn set_mount_attributes(mount: &OwnedFd, attributes: &MountAttributes) -> io::Result<()> {
    let size = size_of::<MountAttributes>();
    let at = libc::AT_EMPTY_PATH;
    // SAFETY: the kernel reads an empty path and `size` bytes from the reference, and keeps no pointer.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), at, &raw const *attributes, size)
    };
    succeeded(result).map(drop)
}

/// Attaches a mount at `target`, not through a symbolic link. Linux 5.2.
pub(super) fn attach_mount(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    let flags = MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: both paths end with a zero byte and outlive the call.
    let result = unsafe {
        let (from, to) = (c"".as_ptr(), target.as_ptr());
        libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), from, libc::AT_FDCWD, to, flags)
    };
    succeeded(result).map(drop)
}

fn succeeded(result: c_long) -> io::Result<c_long> {
    Ok(Errno::result(result)?)
}
