//! The clean end of a guest: programs asked to go, file systems unmounted, every disk flushed, then the power off.

use std::fs::{self, File};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sync};

/// These carry the disks: they go last, after the file systems.
const DISK_PROGRAMS: &[&str] = &["nbdkit", "nbd-client", "systemd-udevd", "(udev-worker)"];
const GRACE: Duration = Duration::from_secs(5);

/// Does not return on a guest; errors on the way are passed over, since the power goes off in any case.
pub(crate) fn off() {
    for process in others() {
        let _ = kill(process, Signal::SIGTERM);
    }
    let deadline = Instant::now() + GRACE;
    while !others().is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(10));
    }
    for process in others() {
        let _ = kill(process, Signal::SIGKILL);
    }
    sync();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().rev().filter(|line| line.starts_with("/dev/")) {
        let target = line.split(' ').nth(1).unwrap_or_default().replace("\\040", " ");
        let _ = umount2(target.as_str(), MntFlags::empty());
    }
    // LVM does not flush what it wrote; an fsync of the disk itself does.
    for disk in block_devices() {
        if let Ok(disk) = File::open(&disk) {
            let _ = disk.sync_all();
        }
    }
    for disk in block_devices().iter().filter(|disk| disk.starts_with("/dev/nbd")) {
        let _ = Command::new("nbd-client").args(["-d", disk]).output();
    }
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

/// Every process but the first, this one, kernel threads and what carries the disks.
fn others() -> Vec<Pid> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let zombie = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
        let kernel = fs::read(entry.path().join("cmdline")).unwrap_or_default().is_empty();
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if pid > 1 && pid != own && !zombie && !kernel && !DISK_PROGRAMS.contains(&name.trim()) {
            found.extend(i32::try_from(pid).ok().map(Pid::from_raw));
        }
    }
    found
}

/// The disks in use (an unconnected nbd has no size).
fn block_devices() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let size = fs::read_to_string(entry.path().join("size")).unwrap_or_default();
        let name = entry.file_name().to_string_lossy().into_owned();
        if size.trim() != "0" && (name.starts_with("ubd") || name.starts_with("nbd")) {
            found.push(format!("/dev/{name}"));
        }
    }
    found
}
