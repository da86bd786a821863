//! The lvm commands that change something. One at a time per volume group, in the order they came:
//! lvm's own lock would serialise them anyway, and processes that wait for it only cost memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::error::{Error, Result};
use crate::host::commands::{Command, CommandError, Commands};
use crate::host::kernel::Kernel;
use crate::lvm::layout::Layout;
use crate::lvm::model::VolumeGroup;

/// Settings on top of the host's own lvm.conf, so that its filters, devices file and system id count.
/// - `use_aio=0`: setting aio up and down is most of the cost of a command.
/// - `backup`, `archive`: a backup is written once per burst instead (`Writer::back_up`).
/// - `udev_sync=0`: device nodes are opened by number, which devtmpfs has at once. It is why volumes are
///   made with `-Zn -Wn` and zeroed by the driver itself.
/// - `retry_deactivation`: udev may still be looking at a device that is to go.
const SETTINGS: &str = "global{use_aio=0 notify_dbus=0} backup{backup=0 archive=0} \
     activation{udev_sync=0 monitoring=0 retry_deactivation=1} devices{hints=\"none\"} \
     log{command_names=0 prefix=\"\"}";

/// The right to change a volume group; others wait until it is dropped.
pub struct Turn {
    _guard: OwnedMutexGuard<()>,
}

/// Runs the lvm commands that change volume groups.
pub struct Writer {
    commands: Arc<dyn Commands>,
    kernel: Arc<dyn Kernel>,
    queues: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Writer {
    /// A writer over the two seams.
    pub fn new(commands: Arc<dyn Commands>, kernel: Arc<dyn Kernel>) -> Self {
        Self { commands, kernel, queues: Mutex::default() }
    }

    /// Waits for the right to change a group; first come, first served.
    pub async fn turn(&self, group: &str) -> Turn {
        let queue = {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(queues.entry(group.to_owned()).or_default())
        };
        Turn { _guard: queue.lock_owned().await }
    }

    /// Makes a logical volume, not activated, with its tags, in one commit.
    pub async fn create(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        name: &str,
        layout: Layout,
        extents: u64,
        tags: &[String],
    ) -> Result<(), CommandError> {
        let command = lvm("lvcreate")
            .arguments(["--yes", "--activate", "n", "--zero", "n", "--wipesignatures", "n"])
            .arguments(layout.lvcreate_arguments(extents))
            .arguments(tags.iter().flat_map(|tag| ["--addtag", tag]))
            .arguments(["--name", name, &group.name]);
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Grows a logical volume to so many extents in all; not the file system on it.
    pub async fn extend(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        name: &str,
        layout: Layout,
        extents: u64,
    ) -> Result<(), CommandError> {
        let command =
            lvm("lvextend").arguments(layout.lvextend_arguments(extents)).argument(full_name(&group.name, name));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Adds and takes away tags in one commit.
    pub async fn change_tags(
        &self,
        _turn: &Turn,
        group: &str,
        name: &str,
        add: &[String],
        remove: &[String],
    ) -> Result<(), CommandError> {
        let command = lvm("lvchange")
            .arguments(add.iter().flat_map(|tag| ["--addtag", tag]))
            .arguments(remove.iter().flat_map(|tag| ["--deltag", tag]))
            .argument(full_name(group, name));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Makes the device of a volume appear.
    pub async fn activate(&self, _turn: &Turn, group: &str, name: &str) -> Result<(), CommandError> {
        let command =
            lvm("lvchange").arguments(["--activate", "y", "--ignoreactivationskip"]).argument(full_name(group, name));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Takes the device of a volume away; fails while it is open.
    pub async fn deactivate(&self, _turn: &Turn, group: &str, name: &str) -> Result<(), CommandError> {
        let command = lvm("lvchange").arguments(["--activate", "n"]).argument(full_name(group, name));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Sets a suspended device going again.
    pub async fn refresh(&self, _turn: &Turn, group: &str, name: &str) -> Result<(), CommandError> {
        let command = lvm("lvchange").argument("--refresh").argument(full_name(group, name));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Removes volumes of one group in one commit.
    pub async fn remove(&self, _turn: &Turn, group: &str, names: &[String]) -> Result<(), CommandError> {
        let command =
            lvm("lvremove").arguments(["--force", "--yes"]).arguments(names.iter().map(|name| full_name(group, name)));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Writes the group's metadata to `/etc/lvm/backup`, for the admin's `vgcfgrestore`.
    pub async fn back_up(&self, _turn: &Turn, group: &str) -> Result<(), CommandError> {
        self.commands.run_ok(&lvm("vgcfgbackup").argument(group)).await.map(drop)
    }

    /// Makes what was committed survive a power cut: lvm itself never flushes the disk's cache.
    pub async fn flush(&self, group: &VolumeGroup) -> Result<()> {
        for device in group.physical_volumes.iter().filter_map(|volume| volume.device.as_deref()) {
            self.kernel
                .flush(device)
                .await
                .map_err(|source| Error::kernel(format!("could not flush {}", device.display()), source))?;
        }
        Ok(())
    }
}

fn lvm(subcommand: &str) -> Command {
    Command::new("lvm").arguments([subcommand, "--config", SETTINGS])
}

fn full_name(group: &str, name: &str) -> String {
    format!("{group}/{name}")
}
