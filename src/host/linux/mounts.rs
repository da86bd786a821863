//! Making and undoing mounts, and the room of a file system. Everything here may block.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::syncfs;

use super::super::kernel::{FileSystemUsage, Mount};
use super::system_calls::{self, MountAttributes};

/// `MOUNT_ATTR_*` of linux/mount.h: the flags of a single mount as `mount_setattr(2)` knows them.
mod attribute {
    pub(super) const READ_ONLY: u64 = 0x01;
    pub(super) const NO_SET_USER_ID: u64 = 0x02;
    pub(super) const NO_DEVICES: u64 = 0x04;
    pub(super) const NO_EXECUTE: u64 = 0x08;
    pub(super) const ACCESS_TIME_MASK: u64 = 0x70;
    pub(super) const ACCESS_TIME_RELATIVE: u64 = 0x00;
    pub(super) const ACCESS_TIME_NONE: u64 = 0x10;
    pub(super) const ACCESS_TIME_STRICT: u64 = 0x20;
    pub(super) const NO_DIRECTORY_ACCESS_TIME: u64 = 0x80;
}

/// mount(2) copies one page of text for the file system; shorter text is cut off nowhere.
const DATA_LIMIT: usize = 4095;
const ACCESS_TIME: MsFlags = MsFlags::MS_NOATIME.union(MsFlags::MS_RELATIME).union(MsFlags::MS_STRICTATIME);

/// An option that belongs to the single mount, in both of the kernel's languages.
#[derive(Clone, Copy)]
enum PerMount {
    Switch { flag: MsFlags, attribute: u64, on: bool },
    AccessTime { flag: MsFlags, attribute: u64 },
}

impl PerMount {
    fn parse(option: &str) -> Option<Self> {
        let switch = |flag, attribute, on| Some(Self::Switch { flag, attribute, on });
        let access_time = |flag, attribute| Some(Self::AccessTime { flag, attribute });
        match option {
            "ro" | "rw" => switch(MsFlags::MS_RDONLY, attribute::READ_ONLY, option == "ro"),
            "nosuid" | "suid" => switch(MsFlags::MS_NOSUID, attribute::NO_SET_USER_ID, option == "nosuid"),
            "nodev" | "dev" => switch(MsFlags::MS_NODEV, attribute::NO_DEVICES, option == "nodev"),
            "noexec" | "exec" => switch(MsFlags::MS_NOEXEC, attribute::NO_EXECUTE, option == "noexec"),
            "nodiratime" | "diratime" => {
                switch(MsFlags::MS_NODIRATIME, attribute::NO_DIRECTORY_ACCESS_TIME, option == "nodiratime")
            }
            "noatime" => access_time(MsFlags::MS_NOATIME, attribute::ACCESS_TIME_NONE),
            "relatime" => access_time(MsFlags::MS_RELATIME, attribute::ACCESS_TIME_RELATIVE),
            "strictatime" => access_time(MsFlags::MS_STRICTATIME, attribute::ACCESS_TIME_STRICT),
            _ => None,
        }
    }

    fn apply_to_flags(self, flags: MsFlags) -> MsFlags {
        match self {
            Self::Switch { flag, on: true, .. } => flags | flag,
            Self::Switch { flag, on: false, .. } => flags - flag,
            Self::AccessTime { flag, .. } => (flags - ACCESS_TIME) | flag,
        }
    }

    fn apply_to_attributes(self, attributes: &mut MountAttributes) {
        let (mask, value) = match self {
            Self::Switch { attribute, on, .. } => (attribute, if on { attribute } else { 0 }),
            Self::AccessTime { attribute, .. } => (attribute::ACCESS_TIME_MASK, attribute),
        };
        attributes.set = (attributes.set & !mask) | value;
        // The access time is a number, not a bit: its whole field is cleared before it is set.
        let clear = if mask == attribute::ACCESS_TIME_MASK { mask } else { mask & !value };
        attributes.clear = (attributes.clear & !mask) | clear;
    }
}

/// Options that belong to the file system and are flags of mount(2) all the same.
fn super_flag(option: &str) -> Option<MsFlags> {
    match option {
        "sync" => Some(MsFlags::MS_SYNCHRONOUS),
        "dirsync" => Some(MsFlags::MS_DIRSYNC),
        "lazytime" => Some(MsFlags::MS_LAZYTIME),
        "async" | "nolazytime" | "defaults" => Some(MsFlags::empty()),
        _ => None,
    }
}

/// The flags and the text that mount(2) takes, from options as mount(8) writes them.
fn flags_and_data(options: &[String]) -> io::Result<(MsFlags, String)> {
    let mut flags = MsFlags::empty();
    let mut data: Vec<&str> = Vec::new();
    for option in options {
        if let Some(per_mount) = PerMount::parse(option) {
            flags = per_mount.apply_to_flags(flags);
        } else if let Some(flag) = super_flag(option) {
            flags |= flag;
        } else {
            // Quotes stay: the kernel's SELinux parser wants them around a comma (`context="…:c1,c2"`).
            data.push(option);
        }
    }
    let data = data.join(",");
    if data.len() > DATA_LIMIT {
        return Err(invalid(format!("mount options of {} bytes: the kernel takes {DATA_LIMIT}", data.len())));
    }
    Ok((flags, data))
}

/// Makes a mount.
pub(super) fn make(wanted: &Mount) -> io::Result<()> {
    let (Mount::FileSystem { target, .. } | Mount::Bind { target, .. }) = wanted;
    // Mounts through a symbolic link could not be undone, as unmounting follows none.
    if target.symlink_metadata()?.is_symlink() {
        return Err(io::Error::from(nix::errno::Errno::ELOOP));
    }
    match wanted {
        Mount::FileSystem { device, target, file_system, options } => {
            let (flags, data) = flags_and_data(options)?;
            Ok(mount(Some(device), target, Some(file_system.as_str()), flags, Some(data.as_str()))?)
        }
        Mount::Bind { source, target, options } => {
            let options = options
                .iter()
                .map(|option| {
                    PerMount::parse(option).ok_or_else(|| invalid(format!("{option} is no option of a bind mount")))
                })
                .collect::<io::Result<Vec<_>>>()?;
            if options.is_empty() {
                return plain_bind(source, target);
            }
            match complete_bind(source, target, &options) {
                // Linux before 5.12; some sandboxes answer EPERM for calls they do not know.
                Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENOSYS | nix::libc::EPERM)) => {
                    bind_then_remount(source, target, &options)
                }
                result => result,
            }
        }
    }
}

fn plain_bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Attaches the bind mount with its flags already set: it can never be seen without them, and the copies
/// that spread to other mount namespaces (the kubelet's, from a driver in a container) have them too.
fn complete_bind(source: &Path, target: &Path, options: &[PerMount]) -> io::Result<()> {
    let mut attributes = MountAttributes { set: 0, clear: 0, propagation: 0, user_namespace: 0 };
    for option in options {
        option.apply_to_attributes(&mut attributes);
    }
    let mount = system_calls::clone_mount(source)?;
    system_calls::set_mount_attributes(&mount, &attributes)?;
    system_calls::attach_mount(&mount, target)
}

/// The old way in two steps. A remount sets all flags anew, so those that the mount has are named again.
fn bind_then_remount(source: &Path, target: &Path, options: &[PerMount]) -> io::Result<()> {
    plain_bind(source, target)?;
    let remount = || -> io::Result<()> {
        let present = flags_of(statvfs(target)?.flags());
        let flags = options.iter().fold(present, |flags, option| option.apply_to_flags(flags));
        let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
        Ok(mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?)
    };
    undone_on_failure(target, remount())
}

fn undone_on_failure(target: &Path, second_step: io::Result<()>) -> io::Result<()> {
    second_step.inspect_err(|_| {
        if let Err(error) = unmount(target) {
            tracing::error!(target = %target.display(), %error, "a bind mount without its options could not be undone");
        }
    })
}

fn flags_of(present: FsFlags) -> MsFlags {
    let switches = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
    ];
    let flags =
        switches.into_iter().filter(|(one, _)| present.contains(*one)).map(|(_, flag)| flag).collect::<MsFlags>();
    let access_time = if present.contains(FsFlags::ST_NOATIME) {
        MsFlags::MS_NOATIME
    } else if present.contains(FsFlags::ST_RELATIME) {
        MsFlags::MS_RELATIME
    } else {
        MsFlags::MS_STRICTATIME
    };
    flags | access_time
}

/// Takes away the topmost mount at `target`.
pub(super) fn unmount(target: &Path) -> io::Result<()> {
    Ok(umount2(target, MntFlags::UMOUNT_NOFOLLOW)?)
}

/// The room of the file system that `path` lies on.
pub(super) fn usage(path: &Path) -> io::Result<FileSystemUsage> {
    let stat = statvfs(path)?;
    let unit = stat.fragment_size();
    Ok(FileSystemUsage {
        total_bytes: stat.blocks() * unit,
        available_bytes: stat.blocks_available() * unit,
        used_bytes: stat.blocks().saturating_sub(stat.blocks_free()) * unit,
        total_inodes: stat.files(),
        free_inodes: stat.files_free(),
    })
}

/// Writes out what is in memory of the file system that `folder` lies on.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    Ok(syncfs(File::open(folder)?)?)
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
