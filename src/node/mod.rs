//! Node mode: the CSI services over this machine's volume groups.
//!
//! - [`controller_service`], [`group_controller_service`], [`node_service`]: the gRPC services; parse, call, answer
//! - [`remote`]: which of them a controller gets
//! - [`create`], [`copy`], [`delete`], [`expand`]: what changes volumes
//! - [`snapshot`]: their snapshots; `freeze`: how long they hold back who writes
//! - [`stage`], [`format`](mod@format), [`publish`], [`unstage`]: what shows volumes to their users
//! - [`list`], [`capacity`], [`stats`], [`health`]: what only looks
//! - `attended`: what is looked after, each by a task of its own
//! - `broken_off`: what lvm commands leave that did not come to their end; `forgotten`: what kubelet leaves that ended early
//! - [`reaper`], [`group_backup`]: in the background, wiping and removing deleted volumes, and lvm's backups
//! - [`trim`]: in the background, giving back what file systems do not use any more
//! - [`placement`], [`uses`], [`topology`]: the arithmetic of room, what a class can be used for, where this is
//! - [`pools`]: thin pools
//! - `mending`, `thaw`: in the background, what commands that broke off, or processes that were killed, have left half made or held back
//! - [`volume`], [`device`], [`locks`]: a volume as it is now, its device and mounts, one operation at a time
//! - `units`: parts of a volume
//!
//! Nothing that matters is remembered between calls: what a volume is lies in its tags, where it is
//! mounted in the kernel's mount table.

mod attended;
mod broken_off;
pub mod capacity;
pub mod controller_service;
pub mod copy;
pub mod create;
pub mod delete;
pub mod device;
pub mod expand;
mod forgotten;
pub mod format;
mod freeze;
pub mod group_backup;
pub mod group_controller_service;
pub mod health;
pub mod list;
pub mod locks;
mod mending;
pub mod metadata_service;
pub mod node_service;
pub mod placement;
pub mod pools;
pub mod publish;
pub mod reaper;
pub mod remote;
pub mod snapshot;
pub mod stage;
pub mod stats;
mod thaw;
pub mod topology;
pub mod trim;
mod units;
pub mod unstage;
pub mod uses;
pub mod volume;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::copy::Copies;
use self::forgotten::Forgotten;
use self::locks::Locks;
use self::mending::Mending;
use self::pools::activation::Activations;
use self::pools::blocks::MetadataTurns;
use self::reaper::Reaper;
use self::volume::Volume;
use crate::config::classes::Class;
use crate::config::watch::ClassesInForce;
use crate::error::{Error, Result};
use crate::host::commands::Commands;
use crate::host::kernel::{Kernel, MappedDevice, MountEntry};
use crate::lvm::backup::Backups;
use crate::lvm::groups::{Groups, View};
use crate::lvm::model::VolumeGroup;
use crate::lvm::tags::VolumeTags;
use crate::lvm::volume_id::VolumeId;
use crate::lvm::writer::Writer;

/// Who this node is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The CSI driver's name.
    pub driver: String,
    /// The node's name as the orchestrator knows it.
    pub name: String,
    /// Its topology value: the name where that is a legal label value.
    pub topology: String,
    /// How many volumes the orchestrator may put here; 0 for no limit.
    pub max_volumes: i64,
}

/// Everything that the services of a node work with.
pub struct Node {
    /// Who this node is.
    pub identity: Identity,
    /// The classes in force.
    pub classes: Arc<ClassesInForce>,
    /// The volume groups as they are.
    pub groups: Groups,
    /// The commands that change them.
    pub writer: Writer,
    /// Starts other programs.
    pub commands: Arc<dyn Commands>,
    /// Mounts and devices.
    pub kernel: Arc<dyn Kernel>,
    /// What lvm's backups say of groups that are not there.
    pub backups: Backups,
    /// Mutations that go on when their caller has left.
    pub detached: TaskTracker,
    /// Cancelled when the process is to end.
    pub stop: CancellationToken,
    locks: Locks,
    reaper: Reaper,
    mending: Mending,
    copies: Copies,
    forgotten: Forgotten,
    /// Tell [`pools::watch`] and [`snapshot::reserve`] that there is something new to look after.
    new_pool: Notify,
    new_thick_snapshot: Notify,
    metadata: MetadataTurns,
    activations: Activations,
}

impl Node {
    /// A node over the two seams. [`reaper::run`], [`pools::watch::run`], [`snapshot::reserve::run`] and [`trim::run`] must be started beside it.
    pub fn new(
        identity: Identity,
        classes: Arc<ClassesInForce>,
        commands: Arc<dyn Commands>,
        kernel: Arc<dyn Kernel>,
        backups: Backups,
        detached: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity,
            classes,
            groups: Groups::new(Arc::clone(&kernel), Arc::clone(&commands)),
            writer: Writer::new(Arc::clone(&commands), Arc::clone(&kernel)),
            commands,
            kernel,
            backups,
            detached,
            stop,
            locks: Locks::default(),
            reaper: Reaper::default(),
            mending: Mending::default(),
            copies: Copies::default(),
            forgotten: Forgotten::default(),
            new_pool: Notify::default(),
            new_thick_snapshot: Notify::default(),
            metadata: MetadataTurns::default(),
            activations: Activations::default(),
        })
    }

    /// Runs a mutation of one volume to its end even when the caller's deadline passes: tonic drops the
    /// handler then, and a lock given back half-way would let a second command loose on the same volume.
    async fn mutate<T, F>(self: &Arc<Self>, volume: &str, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let held = self.locks.take(volume, operation)?;
        let task = self.detached.spawn(async move {
            let _held = held;
            work.await
        });
        task.await.unwrap_or_else(|failure| {
            Err(Error::Internal { problem: format!("{operation} of volume {volume} broke off: {failure}") })
        })
    }

    /// The id of a volume of this node.
    fn volume_id(&self, logical_name: &str) -> String {
        VolumeId::text(&self.identity.topology, logical_name)
    }

    /// The logical volume's name in an id of this node; `None` for ids that this node never gave out.
    fn logical_name(&self, volume_id: &str) -> Option<String> {
        let id = VolumeId::parse(volume_id)?;
        (id.node == self.identity.topology).then_some(id.logical_volume)
    }

    /// The name in an id, or the error that there is no such volume.
    fn known_name(&self, volume_id: &str) -> Result<String> {
        self.logical_name(volume_id).ok_or_else(|| Error::no_volume(volume_id))
    }

    /// A volume that is there and not being deleted.
    async fn volume(&self, logical_name: &str) -> Result<Volume> {
        let view = self.groups.read().await?;
        match Volume::find(&view, logical_name)? {
            Some(volume) if volume.tags.deleting.is_none() => whole(volume),
            Some(_deleted) => Err(Error::no_volume(&self.volume_id(logical_name))),
            None => Err(self.missing(&view, logical_name).await),
        }
    }

    /// Why a volume was not found: what it is on is out of reach, or it does not exist.
    async fn missing(&self, view: &View, logical_name: &str) -> Error {
        let unknown = self.why_unknown(view, logical_name).await;
        unknown.unwrap_or_else(|| Error::no_volume(&self.volume_id(logical_name)))
    }

    /// Why a volume that was not found may exist all the same: what it is on is not there, or cannot be
    /// read now. `None` when it certainly does not exist.
    async fn why_unknown(&self, view: &View, logical_name: &str) -> Option<Error> {
        let counts = |tags: &[String]| VolumeTags::parse(tags).is_some_and(|tags| tags.deleting.is_none());
        match self.why_out_of_reach(view, logical_name, counts).await {
            None => why_unread(view, &format!("volume {logical_name}")),
            out_of_reach => out_of_reach,
        }
    }

    /// Why a volume that exists cannot be found. A volume that is out of reach is not deleted. `counts` tells by its tags
    /// whether it is meant.
    async fn why_out_of_reach(
        &self,
        view: &View,
        logical_name: &str,
        counts: impl Fn(&[String]) -> bool + Send + Sync,
    ) -> Option<Error> {
        let holds = |group: &VolumeGroup| group.logical_volume(logical_name).is_some_and(|volume| counts(&volume.tags));
        self.why_unreachable(view, &format!("volume {logical_name}"), holds).await
    }

    /// Why what a group `holds` cannot be found though it exists: its group cannot be used, or is not there now, from what this
    /// process saw earlier, else from lvm's backups.
    async fn why_unreachable(
        &self,
        view: &View,
        what: &str,
        holds: impl Fn(&VolumeGroup) -> bool + Send,
    ) -> Option<Error> {
        let unusable = view.unusable.iter().find(|unusable| unusable.told.iter().any(|group| holds(group)));
        if let Some(unusable) = unusable {
            let (group, reason) = (&unusable.name, &unusable.reason);
            let problem = format!("{what} is in volume group {group}, which cannot be used: {reason}");
            return Some(Error::Unavailable { problem });
        }
        let group = if let Some(group) = view.vanished.iter().find(|group| holds(group)) {
            group.name.clone()
        } else {
            let here: Vec<&str> = view.groups.iter().map(|group| group.uuid.as_str()).collect();
            let backups = self.backups.groups(&here).await;
            backups.into_iter().find(|group| holds(group) && !here.contains(&group.uuid.as_str()))?.name
        };
        let problem = format!("{what} is in volume group {group}, which is not there now; attach its disks");
        Some(Error::Unavailable { problem })
    }

    /// The class of that name.
    fn class(&self, name: &str) -> Option<Class> {
        self.classes.current().class(name).cloned()
    }

    async fn mapped_devices(&self) -> Result<Vec<MappedDevice>> {
        self.kernel.mapped_devices().await.map_err(|source| Error::kernel("could not ask device-mapper", source))
    }

    /// The volume's device while it is active.
    async fn active_device(&self, volume: &Volume) -> Result<Option<MappedDevice>> {
        self.device_of(&volume.logical.mapper_uuid(&volume.group)).await
    }

    async fn mounts(&self) -> Result<Vec<MountEntry>> {
        self.kernel.mounts().await.map_err(|source| Error::kernel("could not read the mount table", source))
    }
}

/// A copy that is not whole is nobody's yet.
fn whole(volume: Volume) -> Result<Volume> {
    if volume.tags.incomplete().is_none() {
        return Ok(volume);
    }
    let operation = String::from("what it is a copy of is not copied yet; repeat its CreateVolume");
    Err(Error::Busy { volume: volume.logical.name.clone(), operation })
}

/// Why what was not found in a volume group may be there all the same: the group itself was not found, and may be there.
fn why_hidden(view: &View, group: &str, what: &str) -> Option<Error> {
    if !view.may_hide(group) {
        return None;
    }
    let place = format!("{what} is in volume group {group}, which");
    let of_group = if let Some(reason) = view.why_unusable(group) {
        format!("{place} cannot be used: {reason}")
    } else if view.vanished.iter().any(|vanished| vanished.name == group) {
        format!("{place} is not there now; attach its disks")
    } else {
        // Its own disk may be the one that does not tell.
        return why_unread(view, what);
    };
    Some(Error::Unavailable { problem: of_group })
}

/// Why a volume that was not found may be on disks that are there but do not tell. One that fails to answer once must
/// not make anybody believe that a volume is gone.
fn why_unread(view: &View, what: &str) -> Option<Error> {
    let problem = if let Some(unusable) = view.unusable.iter().find(|unusable| unusable.told.is_empty()) {
        let (group, reason) = (&unusable.name, &unusable.reason);
        format!("{what} may be in volume group {group}, which cannot be used: {reason}")
    } else {
        let unreadable = view.unreadable.first()?;
        let device = unreadable.device.display();
        format!("{what} may be on {device}, which cannot be read: {}", unreadable.reason)
    };
    Some(Error::Unavailable { problem })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::lvm::groups::{Unreadable, Unusable};
    use crate::lvm::model::sample;

    #[test]
    fn why_something_is_hidden_is_its_groups_own_reason_before_what_else_cannot_be_read() {
        let unusable = |name: &str, told| Unusable { name: name.to_owned(), reason: format!("{name} is odd"), told };
        let view = View {
            groups: vec![sample::group("here", &[]).into()],
            unusable: vec![
                unusable("strange", Vec::new()),
                unusable("twice", vec![sample::group("twice", &[]).into()]),
            ],
            vanished: vec![sample::group("gone", &[]).into()],
            unreadable: vec![Unreadable { device: PathBuf::from("/dev/sdx"), reason: String::from("broken") }],
        };
        let why = |group: &str| why_hidden(&view, group, "volume v").map(|error| error.to_string());
        assert!(why("twice").unwrap().contains("twice is odd"));
        assert!(why("gone").unwrap().contains("gone, which is not there now"));
        assert!(why("other").unwrap().contains("may be in volume group strange"));
        assert_eq!(why("here"), None);
        let only_disk = View { unreadable: view.unreadable, ..View::default() };
        assert!(why_hidden(&only_disk, "other", "volume v").unwrap().to_string().contains("/dev/sdx"));
    }
}
