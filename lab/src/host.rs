//! `LAB=host`: the machine's own kernel as the lab's machine, where it has device-mapper. Disks are loop devices over
//! sparse files; programs run in a process and mount namespace of their own, so that all of it can be undone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command as HostCommand;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};

use crate::cache::RunFolder;
use crate::channel::{Channel, locked};
use crate::command::Command;
use crate::disk::Disk;
use crate::enclosure::Enclosure;
use crate::frame::Request;
use crate::options::Options;
use crate::process;

/// Whatever was mounted since the start (all programs are gone when this runs), whatever stands on loop devices over our disk images, from the top down, then the loop devices, then the run's folder.
/// Never a device that does not lead to one of our images.
const UNDO: &str = r#"
tac /proc/self/mountinfo | while read -r id _ _ _ target _; do
    case " $known " in *" $id "*) continue ;; esac
    target=$(printf %b "$target")
    umount "$target" 2>/dev/null || umount -l "$target"
done
drop() {
    for holder in /sys/block/"$1"/holders/*; do [ -e "$holder" ] && drop "${holder##*/}"; done
    case $1 in dm-*) [ -e "/sys/block/$1/dm/name" ] && 
        for attempt in 1 2 3; do dmsetup remove --retry "$(cat "/sys/block/$1/dm/name")" && break; done ;; esac
}
for loop in /sys/block/loop*; do
    case "$(cat "$loop/loop/backing_file" 2>/dev/null)" in
        "$disks"/*)
            drop "${loop##*/}"
            losetup --detach "/dev/${loop##*/}"
            # Who still looks at it, as udev may, keeps it for a moment.
            for turn in $(seq 100); do [ -e "$loop/loop/backing_file" ] || break; sleep 0.05; done
            ;;
    esac
done
rm -rf --one-file-system "$run"
"#;

/// The machine's own kernel. Dropping it, or the end of this process in whatever way, undoes all that it set up.
#[derive(Debug)]
pub struct Host {
    enclosure: Enclosure,
    disk_folder: PathBuf,
    loops: Mutex<BTreeMap<String, String>>,
    run: RunFolder,
}

impl Host {
    /// Refuses where the kernel has no device-mapper. Shares mean nothing here: every path is what it is.
    pub fn start(options: &Options) -> Result<Self> {
        let _ = HostCommand::new("modprobe").args(["-a", "dm-mod", "loop"]).output();
        File::options().read(true).write(true).open("/dev/mapper/control").context(
            "this machine's kernel has no device-mapper (no usable /dev/mapper/control): leave out LAB=host to use a guest",
        )?;
        let run = RunFolder::create()?;
        let disk_folder = options.made_disk_folder(&run)?;
        let host = Self { enclosure: Enclosure::start(&[])?, disk_folder, loops: Mutex::default(), run };
        let quoted = |path: &std::path::Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
        let mounts = process::run(host.channel(), &Command::new("cut").args(["-d ", "-f1", "/proc/self/mountinfo"]))?;
        let known = mounts.checked()?.text().replace('\n', " ");
        let script =
            format!("known='{known}'\ndisks={}\nrun={}\n{UNDO}", quoted(&host.disk_folder), quoted(host.run.path()));
        host.channel().request(&Request::OnHangup { script })?;
        for disk in &options.disks {
            host.add_disk(disk)?;
        }
        Ok(host)
    }

    pub(crate) fn channel(&self) -> &Arc<Channel> {
        self.enclosure.channel()
    }

    /// The kernel's release.
    pub fn kernel(&self) -> &str {
        self.enclosure.kernel()
    }

    /// The loop device of a disk.
    pub fn device(&self, name: &str) -> Result<String> {
        locked(&self.loops).get(name).cloned().with_context(|| format!("there is no disk `{name}`"))
    }

    /// Makes the image unless it is there and a loop device over it.
    pub fn add_disk(&self, disk: &Disk) -> Result<String> {
        ensure!(self.device(&disk.name).is_err(), "there is a disk `{}` already", disk.name);
        let image = disk.image(&self.disk_folder)?.to_string_lossy().into_owned();
        let command = Command::new("losetup").args(["--find", "--show", &image]);
        let device = process::run(self.channel(), &command)?.checked()?.text();
        locked(&self.loops).insert(disk.name.clone(), device.clone());
        Ok(device)
    }

    /// Detaches the loop device; refused while it is in use.
    pub fn pull_disk(&self, name: &str) -> Result<()> {
        let device = self.device(name)?;
        let holders = format!("/sys/block/{}/holders", device.trim_start_matches("/dev/"));
        let busy = fs::read_dir(&holders).is_ok_and(|mut entries| entries.next().is_some());
        ensure!(!busy, "{device} is in use: to fail it under its users, put a fault on it");
        process::run(self.channel(), &Command::new("losetup").args(["--detach", &device]))?.checked()?;
        locked(&self.loops).remove(name);
        Ok(())
    }

    /// Ends every program and undoes everything.
    pub fn stop(&self) -> Result<()> {
        self.enclosure.end()
    }
}
