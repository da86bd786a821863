//! The lvm commands that change something. One at a time per volume group, in the order they came:
//! lvm's own lock would serialise them anyway, and processes that wait for it only cost memory. They are meant
//! to run with the settings of [`system_folder`](super::system_folder).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::host::commands::{Command, CommandError, Commands};
use crate::host::kernel::Kernel;
use crate::lvm::groups::View;
use crate::lvm::layout::Layout;
use crate::lvm::model::VolumeGroup;
use crate::lvm::pool::{PoolRules, PoolSize};

/// What lvm must be told of devices that a command makes or loads anew, beyond the settings of
/// [`system_folder`](super::system_folder).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activation {
    /// Per cent of a thin pool in use from which on the kernel tells that it fills. lvm writes it into the pool's table whenever
    /// it loads that, which activating, growing and refreshing an active thin volume do; without it the table has none. The
    /// settings say 100, no mark: with less, lvm refuses new volumes and snapshots in a pool above it.
    pub mark: Option<u8>,
    /// Whether it must wait for the device nodes that udev makes, since it opens them itself: to clear a snapshot's store or a
    /// pool's metadata, to check a pool. Were it to make them (`udev_rules=0`), udev would not know of them and leave them
    /// behind.
    pub waits: bool,
}

impl Activation {
    /// Waits, and nothing else.
    const WAITS: Self = Self { mark: None, waits: true };

    /// As words of a command, with a further section of the settings.
    fn arguments(self, further: Option<&str>) -> Vec<String> {
        let mark = self.mark.map(|mark| format!("thin_pool_autoextend_threshold={mark}"));
        let waits = self.waits.then(|| String::from("udev_sync=1"));
        let settings: Vec<String> = mark.into_iter().chain(waits).collect();
        let section = (!settings.is_empty()).then(|| format!("activation{{{}}}", settings.join(" ")));
        let sections: Vec<String> = section.into_iter().chain(further.map(str::to_owned)).collect();
        if sections.is_empty() { sections } else { vec![String::from("--config"), sections.join(" ")] }
    }
}

/// What lvm's check of a pool is told to set trivial faults right, which is room that belongs to nobody (`thin_check(8)`).
const REPAIRING: &str = "global{thin_check_options=[\"-q\",\"--auto-repair\"]}";
/// What lvm says when that check complains.
const CHECK_FAILED: &str = "Check of pool";

/// A snapshot that is made.
#[derive(Debug, Clone, Copy)]
pub struct NewSnapshot<'s> {
    /// What it is of.
    pub origin: &'s str,
    /// Its name.
    pub name: &'s str,
    /// Its tags.
    pub tags: &'s [String],
}

/// The right to change a volume group; others wait until it is dropped.
pub struct Turn {
    number: u64,
    counts: Arc<Counts>,
    inherited: Option<Arc<View>>,
    left: OwnedMutexGuard<Weak<View>>,
}

/// How many turns there have been, of all groups.
#[derive(Default)]
struct Counts {
    given: AtomicU64,
    ended: AtomicU64,
}

/// A moment in which nobody here was changing any group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet(u64);

impl Turn {
    /// Whether this is the first turn after that moment, so that what was read in between still holds, as far as
    /// this process is concerned.
    pub fn follows(&self, quiet: Quiet) -> bool {
        self.number == quiet.0
    }

    /// What the turn before saw when it was done, if this one was waiting by then.
    pub fn inherited(&self) -> Option<&Arc<View>> {
        self.inherited.as_ref()
    }

    /// Ends the turn and leaves what was seen after the last change to the next one: in a burst, that saves every
    /// second look.
    pub fn end(mut self, seen: &Arc<View>) {
        // Weakly: in a rest it would only keep the metadata of a time long past in memory.
        *self.left = Arc::downgrade(seen);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.counts.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// One at a time, in the order they came; holds what the last one left.
type Queue = Arc<tokio::sync::Mutex<Weak<View>>>;

/// Runs the lvm commands that change volume groups.
pub struct Writer {
    commands: Arc<dyn Commands>,
    kernel: Arc<dyn Kernel>,
    queues: Mutex<HashMap<String, Queue>>,
    counts: Arc<Counts>,
}

impl Writer {
    /// A writer over the two seams.
    pub fn new(commands: Arc<dyn Commands>, kernel: Arc<dyn Kernel>) -> Self {
        Self { commands, kernel, queues: Mutex::default(), counts: Arc::default() }
    }

    /// Waits for the right to change a group; first come, first served.
    pub async fn turn(&self, group: &str) -> Turn {
        let queue = {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(queues.entry(group.to_owned()).or_default())
        };
        let (mut left, waited) = match Arc::clone(&queue).try_lock_owned() {
            Ok(left) => (left, false),
            Err(_) => (queue.lock_owned().await, true),
        };
        let number = self.counts.given.fetch_add(1, Ordering::SeqCst);
        // What was left to nobody is old by now.
        let inherited = std::mem::take(&mut *left).upgrade().filter(|_| waited);
        Turn { number, counts: Arc::clone(&self.counts), inherited, left }
    }

    /// Now, if nobody has a turn.
    pub fn quiet(&self) -> Option<Quiet> {
        let given = self.counts.given.load(Ordering::SeqCst);
        (self.counts.ended.load(Ordering::SeqCst) == given).then_some(Quiet(given))
    }

    /// Makes a logical volume, not activated, with its tags, in one commit.
    pub async fn create(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        name: &str,
        (layout, activation): (&Layout, Activation),
        extents: u64,
        tags: &[String],
    ) -> Result<(), CommandError> {
        let command = lvm("lvcreate", group)
            .arguments(activation.arguments(None))
            .arguments(["--yes", "--activate", "n"])
            .arguments(layout.lvcreate_arguments(extents, group.extent_bytes))
            .arguments(tags.iter().flat_map(|tag| ["--addtag", tag]))
            .arguments(["--name", name, &group.name]);
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Makes a thin snapshot of a thin volume, not activated, with its tags, in one commit. While the volume is active its device
    /// is suspended for that moment, which freezes a mounted file system. A command that is given up is killed, perhaps in it.
    pub async fn snapshot(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        new: NewSnapshot<'_>,
        activation: Activation,
        given_up: CancellationToken,
    ) -> Result<(), CommandError> {
        let command = lvm("lvcreate", group)
            .arguments(activation.arguments(None))
            .arguments(["--yes", "--activate", "n", "--snapshot", "--setactivationskip", "n"])
            .arguments(new.tags.iter().flat_map(|tag| ["--addtag", tag]))
            .arguments(["--name", new.name])
            .argument(full_name(group, new.origin));
        self.commands.run_ok_unless(&command, given_up).await.map(drop)
    }

    /// Makes a snapshot of a thick volume, with so many extents for what is overwritten while there is one. It is active when
    /// the volume is, which is suspended as for a thin snapshot.
    pub async fn snapshot_thick(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        new: NewSnapshot<'_>,
        extents: u64,
        given_up: CancellationToken,
    ) -> Result<(), CommandError> {
        let command = lvm("lvcreate", group)
            .arguments(Activation::WAITS.arguments(None))
            .arguments(["--yes", "--snapshot", "--extents", &extents.to_string()])
            .arguments(new.tags.iter().flat_map(|tag| ["--addtag", tag]))
            .arguments(["--name", new.name])
            .argument(full_name(group, new.origin));
        self.commands.run_ok_unless(&command, given_up).await.map(drop)
    }

    /// Makes of a thick volume's snapshot a logical volume for itself, which holds what it had kept.
    pub async fn split(&self, _turn: &Turn, group: &VolumeGroup, name: &str) -> Result<(), CommandError> {
        let command = lvm("lvconvert", group).arguments(["--yes", "--splitsnapshot"]).argument(full_name(group, name));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Makes a thin pool, activated, with its metadata and its tags.
    pub async fn create_pool(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        rules: &PoolRules,
        size: PoolSize,
        tags: &[String],
    ) -> Result<(), CommandError> {
        let metadata = size.metadata.saturating_mul(group.extent_bytes);
        let activation = Activation { mark: Some(rules.grow_at), waits: true };
        let command = lvm("lvcreate", group)
            .arguments(activation.arguments(None))
            .arguments(["--yes", "--type", "thin-pool", "--zero", "y", "--discards", "passdown"])
            .arguments(["--poolmetadataspare", "y"])
            .argument("--extents")
            .argument(size.data.to_string())
            .argument("--poolmetadatasize")
            .argument(format!("{metadata}b"))
            .argument("--chunksize")
            .argument(format!("{}b", size.chunk_bytes))
            .arguments(tags.iter().flat_map(|tag| ["--addtag", tag]))
            .arguments(["--name", &rules.name, &group.name]);
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Grows a logical volume to so many extents in all; not the file system on it.
    pub async fn extend(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        name: &str,
        extents: u64,
        activation: Activation,
    ) -> Result<(), CommandError> {
        let command = lvm("lvextend", group)
            .arguments(activation.arguments(None))
            .arguments(["--extents", &extents.to_string()])
            .argument(full_name(group, name));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Grows a thin pool's metadata to so many extents in all, and the group's spare with it.
    pub async fn extend_metadata(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        pool: &str,
        extents: u64,
        activation: Activation,
    ) -> Result<(), CommandError> {
        let bytes = extents.saturating_mul(group.extent_bytes);
        let command = lvm("lvextend", group)
            .arguments(activation.arguments(None))
            .arguments(["--poolmetadatasize", &format!("{bytes}b")])
            .argument(full_name(group, pool));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Adds and takes away tags in one commit.
    pub async fn change_tags(
        &self,
        turn: &Turn,
        group: &VolumeGroup,
        name: &str,
        add: &[String],
        remove: &[String],
    ) -> Result<(), CommandError> {
        self.change_tags_of_all(turn, group, &[name], add, remove).await
    }

    /// The same of several volumes of one group. lvm commits once for each, so a crash may come in between.
    pub async fn change_tags_of_all(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        names: &[&str],
        add: &[String],
        remove: &[String],
    ) -> Result<(), CommandError> {
        let command = lvm("lvchange", group)
            .arguments(add.iter().flat_map(|tag| ["--addtag", tag]))
            .arguments(remove.iter().flat_map(|tag| ["--deltag", tag]))
            .arguments(names.iter().map(|name| full_name(group, name)));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Makes the device of a volume appear, and its pool's, which lvm checks before.
    pub async fn activate(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        name: &str,
        activation: Activation,
    ) -> Result<(), CommandError> {
        let activate = |further| {
            lvm("lvchange", group)
                .arguments(activation.arguments(further))
                // With a thick snapshot its volume becomes active, too, of which lvm would ask.
                .arguments(["--yes", "--activate", "y", "--ignoreactivationskip"])
                .argument(full_name(group, name))
        };
        match self.commands.run_ok(&activate(None)).await {
            // The power may have failed between the pool's taking room and giving it to a volume: then that is nobody's, and lvm
            // activates no pool of which the check complains.
            Err(CommandError::Failed { stderr, .. }) if stderr.contains(CHECK_FAILED) => {
                self.commands.run_ok(&activate(Some(REPAIRING))).await?;
                tracing::warn!(group = group.name, name, stderr, "set right what a power cut left in a thin pool");
                Ok(())
            }
            activated => activated.map(drop),
        }
    }

    /// Takes the device of a volume away; fails while it is open.
    pub async fn deactivate(&self, _turn: &Turn, group: &VolumeGroup, name: &str) -> Result<(), CommandError> {
        let command = lvm("lvchange", group).arguments(["--activate", "n"]).argument(full_name(group, name));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Sets a suspended device going again.
    pub async fn refresh(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        name: &str,
        activation: Activation,
    ) -> Result<(), CommandError> {
        let command = lvm("lvchange", group)
            .arguments(activation.arguments(None))
            .argument("--refresh")
            .argument(full_name(group, name));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Removes volumes of one group, thick ones in one commit. Where the pool of a thin one is not active, lvm makes it so for
    /// that moment; it cannot without waiting, and then the pool keeps what the volume held until its next change.
    pub async fn remove(
        &self,
        _turn: &Turn,
        group: &VolumeGroup,
        names: &[String],
        activation: Activation,
    ) -> Result<(), CommandError> {
        let command = lvm("lvremove", group)
            .arguments(activation.arguments(None))
            .arguments(["--force", "--yes"])
            .arguments(names.iter().map(|name| full_name(group, name)));
        self.commands.run_ok(&command).await.map(drop)
    }

    /// Writes the group's metadata to `/etc/lvm/backup`, for the admin's `vgcfgrestore`.
    pub async fn back_up(&self, _turn: &Turn, group: &VolumeGroup) -> Result<(), CommandError> {
        self.commands.run_ok(&lvm("vgcfgbackup", group).argument(&group.name)).await.map(drop)
    }

    /// Waits until no other lvm command changes the group, on the host perhaps: a report of it waits for lvm's lock.
    pub async fn wait_for_others(&self, _turn: &Turn, group: &VolumeGroup) -> Result<(), CommandError> {
        let command = lvm("vgs", group).arguments(["--noheadings", "--options", "vg_name", &group.name]);
        self.commands.run_ok(&command).await.map(drop)
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

/// An lvm command that looks at the devices of the group only. By itself lvm reads every disk of the machine first, and
/// one that hangs would hold up the commands for all groups.
fn lvm(subcommand: &str, group: &VolumeGroup) -> Command {
    let devices = group.physical_volumes.iter().filter_map(|volume| volume.device.as_deref());
    let devices = devices.flat_map(|device| [OsStr::new("--devices"), device.as_os_str()]);
    Command::new("lvm").argument(subcommand).arguments(devices)
}

fn full_name(group: &VolumeGroup, name: &str) -> String {
    format!("{}/{name}", group.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::linux::Linux;
    use crate::host::processes::Processes;

    #[tokio::test]
    async fn only_the_next_turn_follows_a_quiet_moment() {
        let writer = Writer::new(Arc::new(Processes::new()), Arc::new(Linux::new()));
        let before = writer.quiet().unwrap();
        let turn = writer.turn("a").await;
        assert!(turn.follows(before));
        assert_eq!(writer.quiet(), None);
        let other = writer.turn("b").await;
        assert!(!other.follows(before), "the first one may have changed something");
        drop(turn);
        assert_eq!(writer.quiet(), None);
        drop(other);
        let after = writer.quiet().unwrap();
        assert!(writer.turn("a").await.follows(after));
    }

    #[tokio::test]
    async fn who_waited_inherits_what_the_turn_before_saw() {
        let writer = Arc::new(Writer::new(Arc::new(Processes::new()), Arc::new(Linux::new())));
        let (turn, seen) = (writer.turn("a").await, Arc::new(View::default()));
        assert!(turn.inherited().is_none());
        let waiting = tokio::spawn({
            let writer = Arc::clone(&writer);
            async move { writer.turn("a").await }
        });
        tokio::task::yield_now().await;
        turn.end(&seen);
        let next = waiting.await.unwrap();
        assert!(next.inherited().is_some_and(|inherited| Arc::ptr_eq(inherited, &seen)));
        next.end(&seen);
        assert!(writer.turn("a").await.inherited().is_none(), "left to nobody");
    }
}
