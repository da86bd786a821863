//! The room of thick snapshots, which they fill with what their volumes overwrite: grown before it is full, for a full one has
//! lost what it held. Device-mapper tells of that only when it is too late (dm-snap.c raises no event before), so those that
//! are there are looked at every second; without any, nothing is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::host::kernel::SnapshotStatus;
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::tags::copy_source::CopySourceTags;
use crate::lvm::tags::snapshot::SnapshotTags;
use crate::lvm::writer::Activation;
use crate::node::Node;
use crate::node::attended::{Attended, Same, Wakes};
use crate::node::health::{Condition, Severity};
use crate::node::placement::{Room, room_to_grow};
use crate::node::volume::Volume;

/// How often thick snapshots are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How often is looked whether there are any, beside those made here.
const IDLE: Duration = Duration::from_mins(1);
/// How long until growth that could not be done is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Bytes of the sectors that the kernel counts in.
const SECTOR: u64 = 512;
/// Per cent in use from which on a reserve grows.
const MARK: u64 = 70;
/// It also grows when it would be full after so many more looks like the last one.
const LOOKS_AHEAD: u64 = 5;

/// A thick snapshot that is watched.
struct Watched {
    group: String,
    name: String,
    uuid: String,
    used_sectors: u64,
    /// Before then its growth is not tried again.
    retry: Option<Instant>,
    /// Whether it can never be full.
    is_enough: bool,
    is_lost: bool,
}

/// Works until told to stop.
pub async fn run(node: Arc<Node>, stop: CancellationToken) {
    let mut snapshots = Attended::default();
    loop {
        match node.groups.read().await {
            Ok(view) => snapshots.keep((&node, &view), thick_snapshots(&view), attend),
            Err(error) => tracing::warn!(%error, "could not look for thick snapshots"),
        }
        tokio::select! {
            () = node.new_thick_snapshot.notified() => {}
            () = sleep(IDLE) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn attend(node: Arc<Node>, mut snapshot: Watched, mut wakes: Wakes) {
    loop {
        node.guard(&mut snapshot).await;
        if !wakes.pause(Instant::now() + EVERY).await {
            return;
        }
    }
}

fn thick_snapshots(view: &View) -> impl Iterator<Item = (Same, Watched)> {
    let of = |group: &VolumeGroup, logical: &LogicalVolume| Watched {
        group: group.name.clone(),
        name: logical.name.clone(),
        uuid: logical.mapper_uuid(group),
        used_sectors: 0,
        retry: None,
        is_enough: false,
        is_lost: false,
    };
    view.groups.iter().flat_map(move |group| {
        let thick = group.logical_volumes.iter().filter(|logical| class_of(logical).is_some());
        thick.map(move |logical| of(group, logical)).map(|watched| {
            (Same { group: watched.group.clone(), what: format!("{} {}", watched.uuid, watched.name) }, watched)
        })
    })
}

/// The class of what is a thick snapshot of ours, which it takes room by.
fn class_of(logical: &LogicalVolume) -> Option<String> {
    if logical.thin.is_some() || !logical.is_snapshot() {
        return None;
    }
    let snapshot = SnapshotTags::parse(&logical.tags).map(|tags| tags.class);
    snapshot.or_else(|| CopySourceTags::parse(&logical.tags).map(|tags| tags.class))
}

/// Whether a reserve of which so much was in use at the last look, and now, is to grow.
fn is_due(before: u64, used: u64, total: u64) -> bool {
    let ahead = used.saturating_sub(before).saturating_mul(LOOKS_AHEAD).saturating_add(used);
    used.saturating_mul(100) >= total.saturating_mul(MARK) || ahead >= total
}

impl Node {
    async fn guard(&self, snapshot: &mut Watched) {
        let (group, name) = (&snapshot.group, &snapshot.name);
        let may_try = snapshot.retry.is_none_or(|retry| retry <= Instant::now());
        match self.kernel.snapshot_status(&snapshot.uuid).await {
            Ok(Some(SnapshotStatus::Kept { used_sectors, total_sectors })) => {
                // The first look has nothing to compare with.
                let before = std::mem::replace(&mut snapshot.used_sectors, used_sectors);
                let before = if before == 0 { used_sectors } else { before };
                if !is_due(before, used_sectors, total_sectors) || snapshot.is_enough || !may_try {
                    return;
                }
                match self.grow_reserve(group, name, total_sectors).await {
                    Ok(is_enough) => (snapshot.is_enough, snapshot.retry) = (is_enough, None),
                    Err(error) => {
                        tracing::warn!(%error, group, snapshot = name, "a snapshot fills, and its room could not be grown");
                        snapshot.retry = Some(Instant::now() + RETRY);
                    }
                }
            }
            Ok(Some(SnapshotStatus::Lost)) if !snapshot.is_lost && may_try => {
                match self.note_lost(group, name, &snapshot.uuid).await {
                    Ok(()) => {
                        snapshot.is_lost = true;
                        tracing::error!(group, snapshot = name, "a snapshot was full and has lost what it held");
                    }
                    Err(error) => {
                        snapshot.retry = Some(Instant::now() + RETRY);
                        tracing::warn!(%error, group, snapshot = name, "could not note that a snapshot is lost");
                    }
                }
            }
            Err(error) if may_try => {
                snapshot.retry = Some(Instant::now() + RETRY);
                tracing::warn!(%error, group, snapshot = name, "could not ask device-mapper about a snapshot");
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Doubles the room of a thick snapshot, as far as its class may use the group. Answers whether it can never be full: its
    /// volume keeps its size as long as there is a snapshot.
    async fn grow_reserve(&self, group_name: &str, name: &str, total_sectors: u64) -> Result<bool> {
        let turn = self.writer.turn(group_name).await;
        let view = self.groups.read().await?;
        let Some((group, logical)) = view.logical_volume_in(group_name, name) else { return Ok(false) };
        let (Some(class), Some(origin)) = (class_of(logical), logical.snapshot_of.first()) else { return Ok(false) };
        let Some(origin) = group.logical_volume(origin) else { return Ok(false) };
        if total_sectors.saturating_mul(SECTOR) < logical.extents.saturating_mul(group.extent_bytes) {
            // A command was ended before the kernel had what it gave the snapshot.
            self.refresh(&turn, group, logical).await?;
            tracing::info!(group = group_name, snapshot = name, "its device has all the room now that lvm gave it");
            return Ok(false);
        }
        let most = most_useful(origin.extents, group.extent_bytes).saturating_sub(logical.extents);
        let wanted = logical.extents.min(most);
        if wanted == 0 {
            return Ok(true);
        }
        let room = match room_to_grow(group, self.class(&class).as_ref(), None) {
            Room::Extents(room) => room.min(wanted),
            Room::None(reason) => return Err(Error::NoRoom { reason }),
        };
        if room == 0 {
            return Err(Error::NoRoom {
                reason: format!("volume group {group_name} has nothing left that class {class:?} may take"),
            });
        }
        let extents = logical.extents + room;
        let grown = self.writer.extend(&turn, group, name, extents, Activation::default()).await;
        self.reaper.changed(group_name);
        self.keep_running(&turn, group, origin).await?;
        drop(turn);
        let (after, flushed) = tokio::join!(self.groups.read(), self.writer.flush(group));
        let now = after?.group(group_name).and_then(|group| Some(group.logical_volume(name)?.extents));
        if now.is_none_or(|now| now <= logical.extents) {
            grown?;
            return Err(Error::Internal { problem: format!("snapshot {group_name}/{name} did not grow") });
        }
        flushed?;
        tracing::info!(group = group_name, snapshot = name, extents, "grew the room of a snapshot, to extents");
        Ok(false)
    }

    /// The snapshots of a volume that have lost what they held.
    pub(in crate::node) async fn lost_snapshots(&self, volume: &Volume) -> Result<Vec<Condition>> {
        let mut conditions = Vec::new();
        for snapshot in volume.snapshots().filter(|logical| SnapshotTags::parse(&logical.tags).is_some()) {
            if !self.is_kept(&volume.group, snapshot).await? {
                conditions.push(Condition {
                    severity: Severity::Degraded,
                    reason: "SnapshotLost",
                    message: format!(
                        "snapshot {} of {} was full and has lost what it held; delete it, and give the class a larger \
                         snapshotReserve or the volume group more room",
                        snapshot.name,
                        volume.full_name()
                    ),
                });
            }
        }
        Ok(conditions)
    }
}

/// Extents with which a snapshot of so many can never be full, and more than which lvm gives none: all of it in pieces of 4 KiB,
/// a note of 16 bytes on each, in whole pieces, and one piece that says what it is (the kernel's snapshot.rst).
fn most_useful(origin: u64, extent_bytes: u64) -> u64 {
    const PIECE: u128 = 4_096;
    let pieces = u128::from(origin) * u128::from(extent_bytes) / PIECE;
    let notes = pieces / (PIECE / 16) + 1;
    let bytes = (pieces + notes + 1) * PIECE;
    u64::try_from(bytes.div_ceil(u128::from(extent_bytes.max(1)))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_grows_at_its_mark_or_when_it_fills_fast() {
        assert!(!is_due(690, 690, 1_000));
        assert!(is_due(700, 700, 1_000));
        assert!(is_due(100, 250, 1_000), "full after five more looks");
        assert!(!is_due(100, 249, 1_000));
        assert!(!is_due(9, 3, 1_000), "it was made anew");
    }

    #[test]
    fn more_than_all_of_the_volume_and_its_notes_is_of_no_use() {
        assert_eq!(most_useful(10, 4 << 20), 11);
        assert_eq!(most_useful(64, 4 << 20), 65);
        assert_eq!(most_useful(2_560, 4 << 20), 2_571);
    }
}
