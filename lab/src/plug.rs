//! Plugging disks in and pulling them out while a guest runs: a plain disk is a `ubd` device that the kernel's management
//! console adds and removes; a volatile one is an `nbd` device, served inside the guest by nbdkit with a write-back cache
//! that lives in the guest and dies with it.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::channel::locked;
use crate::command::Command;
use crate::disk::{Disk, DiskKind};
use crate::guest::Guest;

/// How long a disk may still be held by programs that are about to let it go.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);
/// As many as the kernel has of each kind.
const PLAIN: usize = 16;
const VOLATILE: usize = 8;

/// Which disk is in which device of its kind.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    plain: [Option<String>; PLAIN],
    volatile: [Option<String>; VOLATILE],
    /// Volatile disks that wait for the guest to be up.
    pub(crate) to_attach: Vec<Disk>,
}

impl Slots {
    /// Makes the images; the kernel's arguments for plain disks.
    pub(crate) fn at_boot(disks: &[Disk], folder: &Path) -> Result<(Self, Vec<String>)> {
        let mut slots = Self::default();
        let mut arguments = Vec::new();
        for disk in disks {
            disk.image(folder)?;
            match disk.kind {
                DiskKind::Plain => {
                    let slot = slots.take(disk)?;
                    arguments.push(format!("ubd{slot}=/lab/disks/{}.img", disk.name));
                }
                DiskKind::Volatile => slots.to_attach.push(disk.clone()),
            }
        }
        Ok((slots, arguments))
    }

    fn take(&mut self, disk: &Disk) -> Result<usize> {
        ensure!(self.find(&disk.name).is_none(), "there is a disk `{}` already", disk.name);
        let slots = match disk.kind {
            DiskKind::Plain => &mut self.plain[..],
            DiskKind::Volatile => &mut self.volatile[..],
        };
        let slot =
            slots.iter().position(Option::is_none).context("a guest has no room for one more disk of this kind")?;
        slots[slot] = Some(disk.name.clone());
        Ok(slot)
    }

    fn find(&self, name: &str) -> Option<(DiskKind, usize)> {
        let position = |slots: &[Option<String>]| slots.iter().position(|slot| slot.as_deref() == Some(name));
        position(&self.plain)
            .map(|slot| (DiskKind::Plain, slot))
            .or_else(|| position(&self.volatile).map(|slot| (DiskKind::Volatile, slot)))
    }

    fn free(&mut self, name: &str) {
        for slot in self.plain.iter_mut().chain(&mut self.volatile) {
            if slot.as_deref() == Some(name) {
                *slot = None;
            }
        }
    }
}

fn device(kind: DiskKind, slot: usize) -> String {
    match kind {
        DiskKind::Plain => format!("/dev/ubd{}", letter(slot)),
        DiskKind::Volatile => format!("/dev/nbd{slot}"),
    }
}

fn letter(slot: usize) -> char {
    char::from(b'a' + u8::try_from(slot).unwrap_or(u8::MAX - b'a'))
}

impl Guest {
    /// The device of a disk in the guest.
    pub fn device(&self, name: &str) -> Result<String> {
        let found = locked(&self.slots).find(name);
        found.map(|(kind, slot)| device(kind, slot)).with_context(|| format!("the guest has no disk `{name}`"))
    }

    /// Plugs a disk in; its device. The image is made when missing.
    pub fn add_disk(&self, disk: &Disk) -> Result<String> {
        disk.image(&self.disk_folder)?;
        let slot = locked(&self.slots).take(disk)?;
        let image = format!("/lab/disks/{}.img", disk.name);
        let added = match disk.kind {
            DiskKind::Plain => self.add_plain(slot, &image),
            DiskKind::Volatile => self.add_volatile(slot, &image),
        };
        if let Err(error) = added {
            locked(&self.slots).free(&disk.name);
            return Err(error).with_context(|| format!("cannot plug in the disk `{}`", disk.name));
        }
        Ok(device(disk.kind, slot))
    }

    /// Pulls a disk out. A volatile one may be in use: its users see I/O errors, what was not flushed is lost. A plain one
    /// that is in use is refused by the kernel: to fail that under its users, put a [`Fault`](crate::Fault) on it.
    pub fn pull_disk(&self, name: &str) -> Result<()> {
        let (kind, slot) = locked(&self.slots).find(name).with_context(|| format!("the guest has no disk `{name}`"))?;
        match kind {
            DiskKind::Plain => self.pull_plain(slot)?,
            DiskKind::Volatile => {
                let script = format!(
                    "nbd-client -d /dev/nbd{slot}; if [ -f /run/lab-nbd{slot}.pid ]; then \
                     kill -KILL \"$(cat /run/lab-nbd{slot}.pid)\"; fi; rm -f /run/lab-nbd{slot}.*; udevadm settle"
                );
                self.run(&Command::shell(script))?.checked()?;
            }
        }
        locked(&self.slots).free(name);
        Ok(())
    }

    fn pull_plain(&self, slot: usize) -> Result<()> {
        let deadline = Instant::now() + RELEASE_LIMIT;
        loop {
            // udev looks into a disk after each change and holds it open for a moment.
            self.run(&Command::new("udevadm").arg("settle"))?;
            match self.console_command(&format!("remove ubd{}", letter(slot))) {
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(Duration::from_millis(20)),
                Ok(_) => return Ok(()),
            }
        }
    }

    fn add_plain(&self, slot: usize, image: &str) -> Result<()> {
        self.console_command(&format!("config ubd{}={image}", letter(slot)))?;
        self.wait_for_device(&device(DiskKind::Plain, slot))
    }

    fn add_volatile(&self, slot: usize, image: &str) -> Result<()> {
        // Whoever has the device open, as udev for a moment after each change, makes connecting fail.
        let script = format!(
            "[ -b /dev/nbd0 ] || {{ modprobe nbd nbds_max={VOLATILE}; udevadm settle; }}\n\
             nbdkit -U /run/lab-nbd{slot}.sock -P /run/lab-nbd{slot}.pid --filter=cache file {image} cache=writeback\n\
             for turn in $(seq 100); do\n\
             nbd-client -unix /run/lab-nbd{slot}.sock /dev/nbd{slot} -b 512 >/run/lab-nbd{slot}.log 2>&1 && exit\n\
             sleep 0.02; done\n\
             cat /run/lab-nbd{slot}.log >&2; exit 1\n"
        );
        self.run(&Command::shell(script))?.checked()?;
        self.wait_for_device(&device(DiskKind::Volatile, slot))
    }

    /// Until the device has its size and udev knows it.
    fn wait_for_device(&self, device: &str) -> Result<()> {
        let script = format!(
            "for turn in $(seq 100); do [ \"$(blockdev --getsize64 {device} 2>/dev/null || echo 0)\" -gt 0 ] && break; sleep 0.02; \
             done; [ -b {device} ]; udevadm settle"
        );
        let output = self.run(&Command::shell(script))?;
        if !output.status.success() {
            bail!("{device} did not appear");
        }
        Ok(())
    }
}
