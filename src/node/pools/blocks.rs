//! Which parts of a thin volume its pool holds data for, and which differ between two: read with `thin_dump` and `thin_delta` from a
//! snapshot of the pool's metadata, while the pool works. A pool has one such snapshot at a time, and its metadata grows as long
//! as it is there, so it is taken for one reading and released. Other programs may hold one, too, and that is theirs.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cut::Origin;
use super::trouble::trouble;
use crate::error::{Error, Result};
use crate::host::commands::{Command, CommandError};
use crate::host::kernel::{Held, PoolMode};
use crate::host::lines::each_line;
use crate::lvm::mappings::Mappings;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::node::Node;
use crate::node::volume::device_path;

/// How long one reading may take.
const LONGEST: Duration = Duration::from_mins(10);

/// What is asked of a pool: what a thin volume holds data for, or where it may differ from another one.
#[derive(Debug, Clone)]
pub(in crate::node) struct Asked {
    /// The other one.
    pub(in crate::node) base: Option<Origin>,
    /// The thin volume.
    pub(in crate::node) origin: Origin,
}

/// Whose turn it is to have a snapshot of a pool's metadata, by the pool's device.
#[derive(Debug, Default)]
pub struct MetadataTurns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Turn>>>>);

/// What this process knows of the snapshot of a pool's metadata.
#[derive(Debug, Default)]
struct Turn {
    /// Whether one may be there that an earlier process left.
    may_be_left: bool,
    /// The block in which the kernel keeps the one that this process has: another one is somebody else's.
    root: Option<u64>,
}

impl MetadataTurns {
    fn of(&self, pool: &str) -> Arc<tokio::sync::Mutex<Turn>> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pools.entry(pool.to_owned()).or_default())
    }
}

/// A snapshot of a pool's metadata that is held.
struct HeldMetadata {
    /// The pool's, in messages.
    name: String,
    uuid: String,
    /// Where its metadata lies, kept from becoming another device.
    device: PathBuf,
    _device: Held,
    chunk_bytes: u64,
    /// The numbers of what is asked about, within the pool.
    numbers: Vec<u64>,
}

impl Node {
    /// Gives what there is to `found`, in ascending order: bytes, whole pieces of the pool. Only with the good end all of it is
    /// known. Ends soon when it is `unwanted`; must not be dropped before its end, for the snapshot would stay.
    pub(in crate::node) async fn blocks(
        &self,
        asked: &Asked,
        unwanted: &CancellationToken,
        found: impl FnMut(Range<u64>) + Send,
    ) -> Result<()> {
        let origin = &asked.origin;
        let turn = self.metadata.of(&pool_of(&origin.group, &origin.logical)?.pool_mapper_uuid(&origin.group));
        let Some(mut turn) = unwanted.run_until_cancelled(turn.lock()).await else { return Err(given_up()) };
        let held = self.reserve_metadata(asked, &mut turn).await?;
        let reading = tokio::time::timeout(LONGEST, self.read_metadata(&held, found));
        let read = match unwanted.run_until_cancelled(reading).await {
            Some(read) => read.unwrap_or_else(|_| {
                let problem = format!("reading the metadata of {} took more than {LONGEST:?}", held.name);
                Err(Error::Unavailable { problem })
            }),
            None => Err(given_up()),
        };
        let released = self.release_metadata(&held, &mut turn).await;
        read.and(released)
    }

    /// At the start: releases what an earlier process of this driver left of such snapshots in its pools, whose metadata would
    /// fill. In one that is not active yet it is still to be done.
    pub(in crate::node) async fn release_left_metadata(&self) {
        let Ok(view) = self.groups.read().await else { return };
        for group in &view.groups {
            let pools =
                group.logical_volumes.iter().filter(|logical| logical.pool.is_some() && self.is_own_pool(logical));
            for pool in pools {
                let uuid = pool.pool_mapper_uuid(group);
                self.metadata.of(&uuid).lock().await.may_be_left = true;
                self.release_left_metadata_of(&uuid).await;
            }
        }
    }

    /// The same for one pool, once it is active.
    pub(super) async fn release_left_metadata_of(&self, pool: &str) {
        let turn = self.metadata.of(pool);
        if let Err(error) = self.clear_metadata(pool, &mut *turn.lock().await).await {
            tracing::warn!(%error, pool, "could not release the snapshot of a thin pool's metadata");
        }
    }

    async fn clear_metadata(&self, pool: &str, turn: &mut Turn) -> Result<()> {
        let Some(status) = self.status_of_pool(pool).await?.filter(|_| turn.may_be_left) else { return Ok(()) };
        if status.metadata_snapshot.is_some() {
            self.tell_of_metadata(pool, "release_metadata_snap").await?;
            tracing::info!(pool, "released the snapshot of its metadata that an earlier process held");
        }
        turn.may_be_left = false;
        Ok(())
    }

    async fn reserve_metadata(&self, asked: &Asked, turn: &mut Turn) -> Result<HeldMetadata> {
        // With the group's turn the numbers and the snapshot are of the same moment.
        let group_turn = self.writer.turn(&asked.origin.group.name).await;
        let view = self.groups.read().await?;
        let (group, logical) = asked.origin.now(&view)?;
        let pool = pool_of(group, logical)?;
        let mut numbers = Vec::new();
        if let Some(base) = &asked.base {
            numbers.push(number(base.now(&view)?)?);
        }
        numbers.push(number((group, logical))?);
        let (name, uuid) = (format!("thin pool {}/{}", group.name, pool.name), pool.pool_mapper_uuid(group));
        let unusable = |why: &str| Error::Unavailable { problem: format!("{name} {why}") };
        let status = self.active_pool_status(&group_turn, group, pool).await?;
        let status = status.ok_or_else(|| unusable("was activated, but has no device"))?;
        if matches!(status.mode, PoolMode::Failed | PoolMode::ReadOnly) {
            return Err(unusable(&trouble(&status).map(|trouble| trouble.to_string()).unwrap_or_default()));
        }
        self.clear_metadata(&uuid, turn).await?;
        let chunk_bytes = chunk_of(&asked.origin)?;
        let metadata = pool.pool.as_ref().and_then(|parts| group.logical_volume(&parts.metadata));
        let metadata = metadata.ok_or_else(|| unusable("has no metadata"))?;
        let device = self.device_of(&metadata.metadata_mapper_uuid(group)).await?;
        let device = device.ok_or_else(|| unusable("has no device with its metadata"))?;
        let held = HeldMetadata {
            device: device_path(&device),
            _device: self.hold(&device, &name).await?,
            chunk_bytes,
            numbers,
            name,
            uuid,
        };
        // One that could not be released is there still, perhaps.
        if turn.root.is_some() {
            self.release_metadata(&held, turn).await.ok();
        }
        if self.metadata_snapshot(&held.uuid).await?.is_some() {
            return Err(Error::Unavailable {
                problem: format!(
                    "another program holds a snapshot of the metadata of {}, and there can be one only; if none works on \
                     it, release it (`dmsetup message NAME-tpool 0 release_metadata_snap`)",
                    held.name
                ),
            });
        }
        self.tell_of_metadata(&held.uuid, "reserve_metadata_snap").await?;
        match self.metadata_snapshot(&held.uuid).await {
            Ok(Some(root)) => {
                turn.root = Some(root);
                Ok(held)
            }
            other => {
                // What cannot be told apart later must not stay.
                self.tell_of_metadata(&held.uuid, "release_metadata_snap").await.ok();
                Err(other.err().unwrap_or_else(|| lost(&held.name)))
            }
        }
    }

    /// Releases the snapshot, if it is still the one that was made. An error says that it was not, so that what was read may be
    /// nonsense.
    async fn release_metadata(&self, held: &HeldMetadata, turn: &mut Turn) -> Result<()> {
        let now = self.metadata_snapshot(&held.uuid).await?;
        let ours = turn.root.take();
        if now != ours {
            return Err(lost(&held.name));
        }
        if let Err(error) = self.tell_of_metadata(&held.uuid, "release_metadata_snap").await {
            turn.root = ours;
            tracing::warn!(%error, pool = held.name, "a snapshot of its metadata stays until the next one is made");
        }
        Ok(())
    }

    /// The block with the snapshot of a pool's metadata that is there.
    async fn metadata_snapshot(&self, pool: &str) -> Result<Option<u64>> {
        Ok(self.status_of_pool(pool).await?.and_then(|status| status.metadata_snapshot))
    }

    async fn tell_of_metadata(&self, pool: &str, message: &str) -> Result<()> {
        let told = self.kernel.message(pool, message).await;
        told.map_err(|source| Error::kernel(format!("a thin pool refused the message {message}"), source))
    }

    async fn read_metadata(&self, held: &HeldMetadata, mut found: impl FnMut(Range<u64>) + Send) -> Result<()> {
        let numbers: Vec<String> = held.numbers.iter().map(ToString::to_string).collect();
        let command = match &numbers[..] {
            [base, number] => {
                Command::new("thin_delta").arguments(["--metadata-snap", "--thin1", base, "--thin2", number])
            }
            _ => Command::new("thin_dump").arguments(["--metadata-snap", "--dev-id"]).arguments(&numbers),
        };
        let command = command.argument(&held.device);
        let mut found = |pieces: Range<u64>| {
            let bytes = |piece: u64| piece.saturating_mul(held.chunk_bytes);
            found(bytes(pieces.start)..bytes(pieces.end));
        };
        let mut mappings = Mappings::default();
        each_line(&*self.commands, &command, |line| mappings.line(line, &mut found)).await?;
        let nonsense = |problem| CommandError::Nonsense { command: command.to_string(), problem };
        Ok(mappings.end().map_err(nonsense)?)
    }
}

fn given_up() -> Error {
    Error::Unavailable { problem: String::from("the node is ending, or nobody waits for it; ask again") }
}

fn lost(pool: &str) -> Error {
    Error::Unavailable {
        problem: format!(
            "another program released the snapshot of the metadata of {pool} while it was read; ask again"
        ),
    }
}

/// Its number within its pool.
fn number((group, logical): (&Arc<VolumeGroup>, &Arc<LogicalVolume>)) -> Result<u64> {
    let thin = logical.thin.as_ref().ok_or_else(|| not_in_a_pool(group, logical))?;
    if logical.has_external_origin() {
        return Err(Error::precondition(format!(
            "{}/{} shows another volume where its pool holds nothing (lvmthin(7), external origin), so its pool does not \
             know all of it",
            group.name, logical.name
        )));
    }
    Ok(thin.device_id)
}

fn not_in_a_pool(group: &VolumeGroup, logical: &LogicalVolume) -> Error {
    Error::precondition(format!("{}/{} is not in a thin pool", group.name, logical.name))
}

fn pool_of<'g>(group: &'g VolumeGroup, logical: &LogicalVolume) -> Result<&'g Arc<LogicalVolume>> {
    group.pool_of(logical).ok_or_else(|| not_in_a_pool(group, logical))
}

/// Bytes of the pieces in which its pool hands out room.
pub(in crate::node) fn chunk_of(origin: &Origin) -> Result<u64> {
    let pool = pool_of(&origin.group, &origin.logical)?;
    let pool = pool.pool.as_ref().ok_or_else(|| not_in_a_pool(&origin.group, &origin.logical))?;
    Ok(pool.chunk_bytes)
}
