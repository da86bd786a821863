//! Wipes and removes deleted volumes in the background. All it needs to know is in the `deleting` tag, so
//! a restart goes on where the last run ended. It also calls for `/etc/lvm/backup` once a burst is over.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::host::kernel::Stretch;
use crate::lvm::wipe::Wipe;
use crate::node::Node;
use crate::node::device::mounts_of;
use crate::node::volume::{Volume, device_path};

/// Bytes wiped by one call: small enough that progress is seen and a stop is not held up.
const WIPE_STEP_BYTES: u64 = 64 << 20;
/// Wipes that run at once in a group; more would only share the same disks.
const WIPES_AT_ONCE: usize = 2;
/// How long until a volume that could not be wiped or removed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often the tags are looked at when nobody has said that there is something to do.
const IDLE: Duration = Duration::from_mins(1);
/// How long a group must rest before its backup is written.
const BACKUP_REST: Duration = Duration::from_secs(2);

/// What the reaper knows beyond the tags; all of it can be lost.
#[derive(Debug, Default)]
pub struct Reaper {
    wake: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Bytes wiped so far of the volumes that are being wiped, by their UUID.
    wiping: HashMap<String, u64>,
    /// UUIDs of the volumes that only need to be removed.
    wiped: HashSet<String>,
    /// Groups whose backup is out of date.
    pub(super) changed: BTreeSet<String>,
    /// UUIDs of the groups that were compared with their backups.
    pub(super) compared: HashSet<String>,
    /// Whether there may be something to wipe or to remove.
    look: bool,
    /// Whether something could not be done that is to be tried again soon.
    retry: bool,
    /// Whether the last backup could not be written; a folder that cannot be written may stay so.
    pub(super) backups_fail: bool,
    /// Groups that an lvm command of the reaper runs on. It may hang: then the other groups go on.
    pub(super) busy: HashSet<String>,
    /// Permits for wipes, by group.
    permits: HashMap<String, Arc<Semaphore>>,
}

impl Reaper {
    /// There may be something to do.
    pub fn wake(&self) {
        self.state().look = true;
        self.wake.notify_one();
    }

    /// Something could not be done.
    pub(super) fn look_soon(&self) {
        self.state().retry = true;
        self.wake.notify_one();
    }

    /// Notes that a group's metadata changed, or may have: a failed command may have got that far. It only puts off
    /// the backup: a look for deleted volumes after every creation would take the time of the next one.
    pub fn changed(&self, group: &str) {
        self.state().changed.insert(group.to_owned());
        self.wake.notify_one();
    }

    /// How far the deletion of a volume is, for messages: "wiped (3 of 10 MiB)".
    pub fn progress(&self, volume: &Volume) -> String {
        let state = self.state();
        match state.wiping.get(&volume.logical.uuid) {
            Some(bytes) => format!("wiped ({} of {} MiB)", bytes >> 20, volume.bytes() >> 20),
            None if state.wiped.contains(&volume.logical.uuid) => String::from("removed"),
            None => String::from("wiped (not begun yet)"),
        }
    }

    /// How long until backups are to be written; `None` when all are up to date.
    fn backup_pause(&self) -> Option<Duration> {
        let state = self.state();
        let rest = if state.backups_fail { RETRY } else { BACKUP_REST };
        (!state.changed.is_empty()).then_some(rest)
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a group for an lvm command; false while there is one.
    pub(super) fn take(&self, group: &str) -> bool {
        self.state().busy.insert(group.to_owned())
    }

    fn permits(&self, group: &str) -> Arc<Semaphore> {
        let mut state = self.state();
        Arc::clone(state.permits.entry(group.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(WIPES_AT_ONCE))))
    }

    fn begin(&self, uuid: &str) -> bool {
        let mut state = self.state();
        if state.wiped.contains(uuid) || state.wiping.contains_key(uuid) {
            return false;
        }
        state.wiping.insert(uuid.to_owned(), 0);
        true
    }

    fn end(&self, uuid: &str, done: bool) {
        let mut state = self.state();
        state.wiping.remove(uuid);
        if done {
            state.wiped.insert(uuid.to_owned());
        }
    }
}

/// Works until told to stop. A wipe that runs then is left; the next start begins it anew.
pub async fn run(node: Arc<Node>, stop: CancellationToken) {
    let releasing = Arc::clone(&node);
    node.detached.spawn(async move { releasing.release_left_metadata().await });
    // What the last run left is looked for at once.
    let mut next_look = Instant::now();
    loop {
        if std::mem::take(&mut node.reaper.state().look) || next_look <= Instant::now() {
            let is_something_left = node.reap(&stop).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "could not look for deleted volumes");
                true
            });
            next_look = Instant::now() + if is_something_left { RETRY } else { IDLE };
        }
        if std::mem::take(&mut node.reaper.state().retry) {
            next_look = next_look.min(Instant::now() + RETRY);
        }
        let backup = node.reaper.backup_pause();
        tokio::select! {
            () = node.reaper.wake.notified() => {}
            () = sleep(backup.unwrap_or_default()), if backup.is_some() => node.back_up_changed(),
            () = sleep_until(next_look) => {}
            () = stop.cancelled() => return,
        }
    }
}

impl Node {
    /// One round: starts wipes, removes what is wiped. Answers whether something is left to do.
    async fn reap(self: &Arc<Self>, stop: &CancellationToken) -> Result<bool> {
        let view = self.groups.read().await?;
        self.note_old_backups(&view).await;
        self.mend(&view);
        let deleting: Vec<Volume> =
            Volume::all(&view).into_iter().filter(|volume| volume.tags.deleting.is_some()).collect();
        // A volume whose mark an administrator took away may be written to, and be deleted again.
        let is_deleting = |uuid: &String| deleting.iter().any(|volume| volume.logical.uuid == *uuid);
        self.reaper.state().wiped.retain(is_deleting);
        let mut removable: HashMap<String, Vec<Volume>> = HashMap::new();
        for volume in &deleting {
            let uuid = &volume.logical.uuid;
            let is_wiped = volume.tags.deleting == Some(Wipe::None) || self.reaper.state().wiped.contains(uuid);
            if is_wiped {
                removable.entry(volume.group.name.clone()).or_default().push(volume.clone());
            } else if self.reaper.begin(uuid) {
                let (node, volume, stop) = (Arc::clone(self), volume.clone(), stop.clone());
                tokio::spawn(async move { node.wipe_and_report(&volume, &stop).await });
            }
        }
        for (group, volumes) in removable.into_iter().filter(|(group, _)| self.reaper.take(group)) {
            let node = Arc::clone(self);
            // Tracked, so that a removal under way is waited for at the end.
            self.detached.spawn(async move {
                let removed = node.remove(&group, &volumes).await;
                node.reaper.state().busy.remove(&group);
                match removed {
                    Ok(true) => node.reaper.wake(),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, group, "could not remove deleted volumes; trying again"),
                }
            });
        }
        Ok(!deleting.is_empty())
    }

    async fn wipe_and_report(&self, volume: &Volume, stop: &CancellationToken) {
        let result = self.split_and_wipe(volume, stop).await;
        self.reaper.end(&volume.logical.uuid, matches!(result, Ok(true)));
        match result {
            Ok(true) => self.reaper.wake(),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, volume = volume.full_name(), "could not wipe; trying again"),
        }
    }

    /// Makes the blocks unreadable; false when told to stop half-way, or when it is not to be deleted any more.
    async fn split_and_wipe(&self, volume: &Volume, stop: &CancellationToken) -> Result<bool> {
        let Some(now) = self.still_to_be_wiped(volume).await? else { return Ok(false) };
        // Before it waits for other wipes, however long they take: the volume that it hangs on does not grow as long as it does.
        let Some(now) = self.split_off(now).await? else { return Ok(false) };
        let Ok(_permit) = self.reaper.permits(&volume.group.name).acquire_owned().await else { return Ok(false) };
        self.wipe(&now, stop).await
    }

    /// The volume as it is now, if it is still to be deleted: a wipe may wait and take hours, in which an administrator
    /// may take the mark away.
    async fn still_to_be_wiped(&self, volume: &Volume) -> Result<Option<Volume>> {
        let view = self.groups.read().await?;
        let now = Volume::find(&view, &volume.logical.name)?;
        let is_it = |now: &Volume| now.logical.uuid == volume.logical.uuid && now.tags.deleting.is_some();
        let Some(now) = now.filter(is_it) else { return Ok(None) };
        if let Some(snapshot) = now.snapshots().next() {
            return Err(Error::precondition(format!("{} still has snapshot {}", now.full_name(), snapshot.name)));
        }
        Ok(Some(now))
    }

    /// The volume, after it was parted from what it was a thick snapshot of: until then its device shows that volume, not what
    /// it holds itself.
    async fn split_off(&self, volume: Volume) -> Result<Option<Volume>> {
        if !volume.is_thick_snapshot() {
            return Ok(Some(volume));
        }
        let group = volume.group.name.clone();
        let turn = self.writer.turn(&group).await;
        let Some(volume) = self.still_to_be_wiped(&volume).await? else { return Ok(None) };
        let split = self.writer.split(&turn, &volume.group, &volume.logical.name).await;
        for origin in volume.logical.snapshot_of.iter().filter_map(|name| volume.group.logical_volume(name)) {
            // Whoever uses it waits as long as its device is suspended.
            self.keep_running(&turn, &volume.group, origin).await?;
        }
        self.reaper.changed(&group);
        self.writer.flush(&volume.group).await?;
        let Some(now) = self.still_to_be_wiped(&volume).await? else { return Ok(None) };
        let shown = self.snapshot_status(&now.group, &now.logical).await?;
        if now.is_thick_snapshot() || shown.is_some() {
            split?;
            return Err(Error::Internal { problem: format!("{} is still a snapshot", volume.full_name()) });
        }
        Ok(Some(now))
    }

    async fn wipe(&self, volume: &Volume, stop: &CancellationToken) -> Result<bool> {
        let Some(now) = self.still_to_be_wiped(volume).await? else { return Ok(false) };
        let device = self.activated(&now).await?;
        if self.stays_open(volume).await? {
            return Err(Error::precondition(format!("{} is open; not wiped while it is", volume.full_name())));
        }
        if device.read_only {
            // As its last user had it; nobody may use it any more.
            let failed = |source| Error::kernel(format!("could not make {} writable", volume.full_name()), source);
            self.kernel.set_read_only(&device_path(&device), false).await.map_err(failed)?;
        }
        let mut discards = volume.tags.deleting == Some(Wipe::Discard);
        let mut offset = 0;
        while offset < volume.bytes() {
            if stop.is_cancelled() {
                return Ok(false);
            }
            let Some(now) = self.still_to_be_wiped(volume).await? else { return Ok(false) };
            let (device, _held) = self.held(&now).await?;
            if let Some(mount) = mounts_of(&self.mounts().await?, &device).first() {
                let (name, target) = (now.full_name(), mount.target.display());
                return Err(Error::precondition(format!("{name} is mounted at {target}; not wiped while it is")));
            }
            let path = device_path(&device);
            let length = WIPE_STEP_BYTES.min(volume.bytes() - offset);
            let stretch = Stretch { device: path.clone(), offset, length };
            if discards && self.kernel.discard(stretch.clone()).await.is_err() {
                // A device that cannot discard still must not show the last tenant's data.
                discards = false;
            }
            // In a pool nobody else can read what it holds, and zeroes would take room for all of it.
            if !discards && !volume.is_zeroed() {
                let failed = |source| Error::kernel(format!("could not zero {}", volume.full_name()), source);
                self.kernel.zero(stretch).await.map_err(failed)?;
            }
            offset += length;
            self.reaper.state().wiping.insert(volume.logical.uuid.clone(), offset);
        }
        let failed = |source| Error::kernel(format!("could not flush {}", volume.full_name()), source);
        let Some(now) = self.still_to_be_wiped(volume).await? else { return Ok(false) };
        let (device, _held) = self.held(&now).await?;
        self.kernel.flush(&device_path(&device)).await.map_err(failed)?;
        Ok(true)
    }

    /// Removes volumes of one group in one commit, after a last look that they are still to be deleted. Answers
    /// whether there was one that could be removed.
    async fn remove(&self, group: &str, volumes: &[Volume]) -> Result<bool> {
        for volume in volumes {
            // The wipe's own end is a change that udev looks at.
            self.stays_open(volume).await?;
        }
        let turn = self.writer.turn(group).await;
        let view = self.groups.read().await?;
        let Some(current) = view.group(group) else { return Ok(false) };
        let devices = self.mapped_devices().await?;
        let mut names: Vec<String> = volumes
            .iter()
            .filter_map(|volume| {
                let now = Volume::of(current, current.logical_volume(&volume.logical.name)?)?;
                let is_same = now.logical.uuid == volume.logical.uuid && now.tags.deleting.is_some();
                let is_open = now.device(&devices).is_some_and(|device| device.open_count > 0);
                let is_free = is_same && !is_open && now.snapshots().next().is_none();
                is_free.then(|| volume.logical.name.clone())
            })
            .collect();
        // A pool in trouble keeps no other volumes.
        let kept = self.why_kept(current, &names).await?;
        for why in kept.values() {
            tracing::warn!(group, "could not remove deleted volumes; trying again: {why}");
        }
        let pool_of = |name: &String| current.logical_volume(name).and_then(|volume| current.pool_of(volume));
        names.retain(|name| pool_of(name).is_none_or(|pool| !kept.contains_key(&pool.name)));
        if names.is_empty() {
            return Ok(false);
        }
        let ran = self.remove_volumes(&turn, current, &names).await;
        self.reaper.state().changed.insert(group.to_owned());
        let after = self.groups.read().await?;
        let Some(after) = after.group(group) else {
            return Err(Error::Unavailable { problem: format!("volume group {group} cannot be read") });
        };
        self.writer.flush(after).await?;
        let is_left = |volume: &Volume| after.logical_volumes.iter().any(|left| left.uuid == volume.logical.uuid);
        let mut state = self.reaper.state();
        for volume in volumes.iter().filter(|volume| !is_left(volume)) {
            state.wiped.remove(&volume.logical.uuid);
        }
        drop(state);
        if names.iter().any(|name| after.logical_volume(name).is_some()) {
            ran?;
            return Err(Error::Internal { problem: format!("{} are still there", names.join(" ")) });
        }
        tracing::info!(group, volumes = names.join(" "), "removed deleted volumes");
        Ok(true)
    }

    /// Volumes that are deleted but not gone yet.
    pub fn wipes_pending(volumes: &[Volume]) -> usize {
        volumes.iter().filter(|volume| volume.tags.deleting.is_some()).count()
    }
}
