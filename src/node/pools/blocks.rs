//! Which parts of a thin volume its pool holds data for, and which differ between two: read with `thin_dump` and `thin_delta` from a
//! snapshot of the pool's metadata, while the pool works. A pool has one such snapshot at a time, and its metadata grows as long
//! as it is there, so it is taken for one reading and released.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, timeout_at};

use super::cut::Origin;
use super::trouble::trouble;
use crate::error::{Error, Result};
use crate::host::commands::{Command, CommandError};
use crate::host::kernel::PoolMode;
use crate::lvm::mappings::Mappings;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::node::Node;
use crate::node::volume::device_path;

/// How long somebody may take to take what was read, and all of it.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(10));

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
pub struct MetadataTurns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl MetadataTurns {
    fn of(&self, pool: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pools.entry(pool.to_owned()).or_default())
    }
}

/// A snapshot of a pool's metadata that is held.
struct HeldMetadata {
    device: PathBuf,
    chunk_bytes: u64,
    /// The numbers of what is asked about, within the pool.
    numbers: Vec<u64>,
}

impl Node {
    /// Gives what is found to `found`, in ascending order: bytes, whole pieces of the pool. When nobody takes it any more, it
    /// ends. It must not be dropped before its end, for the snapshot would stay.
    pub(in crate::node) async fn blocks(&self, asked: &Asked, found: Sender<Vec<Range<u64>>>) -> Result<()> {
        let origin = &asked.origin;
        let pool = pool_of(&origin.group, &origin.logical)?;
        let uuid = pool.pool_mapper_uuid(&origin.group);
        let turn = self.metadata.of(&uuid);
        let _turn = turn.lock().await;
        let held = self.reserve_metadata(asked).await?;
        let read = self.read_metadata(&held, &found).await;
        if let Err(error) = self.release_metadata(&origin.group.name, &uuid).await {
            tracing::warn!(%error, pool = pool.name, "a snapshot of its metadata stays until the next one is made");
        }
        read
    }

    /// Takes away what an earlier process left of such snapshots: the pools' metadata would fill.
    pub(in crate::node) async fn release_left_metadata(&self) {
        let Ok(view) = self.groups.read().await else { return };
        for (group, pool, _) in self.class_pools(&view) {
            let uuid = pool.pool_mapper_uuid(&group);
            let turn = self.metadata.of(&uuid);
            let Ok(_turn) = turn.try_lock() else { continue };
            let status = self.pool_status(&group, &pool).await.ok().flatten();
            if !status.is_some_and(|status| status.has_metadata_snapshot) {
                continue;
            }
            match self.release_metadata(&group.name, &uuid).await {
                Ok(()) => tracing::info!(group = group.name, pool = pool.name, "released what an earlier process held"),
                Err(error) => tracing::warn!(%error, pool = pool.name, "could not release its metadata"),
            }
        }
    }

    async fn reserve_metadata(&self, asked: &Asked) -> Result<HeldMetadata> {
        // With the group's turn the numbers and the snapshot are of the same moment.
        let turn = self.writer.turn(&asked.origin.group.name).await;
        let view = self.groups.read().await?;
        let (group, logical) = asked.origin.now(&view)?;
        let pool = pool_of(group, logical)?;
        let mut numbers = Vec::new();
        if let Some(base) = &asked.base {
            numbers.push(number(base.now(&view)?)?);
        }
        numbers.push(number((group, logical))?);
        let uuid = pool.pool_mapper_uuid(group);
        let status = self.active_pool_status(&turn, group, pool).await?;
        let unusable =
            |why: &str| Error::Unavailable { problem: format!("thin pool {}/{} {why}", group.name, pool.name) };
        let status = status.ok_or_else(|| unusable("was activated, but has no device"))?;
        if matches!(status.mode, PoolMode::Failed | PoolMode::ReadOnly) {
            return Err(unusable(&trouble(&status).map(|trouble| trouble.to_string()).unwrap_or_default()));
        }
        let failed = |source| {
            Error::kernel(format!("could not hold the metadata of thin pool {}/{}", group.name, pool.name), source)
        };
        if status.has_metadata_snapshot {
            self.kernel.message(&uuid, "release_metadata_snap").await.map_err(failed)?;
        }
        let parts = pool.pool.as_ref().and_then(|parts| Some((parts, group.logical_volume(&parts.metadata)?)));
        let (parts, metadata) = parts.ok_or_else(|| unusable("has no metadata"))?;
        let device = self.device_of(&metadata.metadata_mapper_uuid(group)).await?;
        let device = device_path(&device.ok_or_else(|| unusable("has no device with its metadata"))?);
        self.kernel.message(&uuid, "reserve_metadata_snap").await.map_err(failed)?;
        Ok(HeldMetadata { device, chunk_bytes: parts.chunk_bytes, numbers })
    }

    async fn release_metadata(&self, group: &str, pool: &str) -> Result<()> {
        let _turn = self.writer.turn(group).await;
        let released = self.kernel.message(pool, "release_metadata_snap").await;
        released.map_err(|source| Error::kernel("could not release the snapshot of a pool's metadata", source))
    }

    async fn read_metadata(&self, held: &HeldMetadata, found: &Sender<Vec<Range<u64>>>) -> Result<()> {
        let numbers: Vec<String> = held.numbers.iter().map(ToString::to_string).collect();
        let command = match &numbers[..] {
            [base, number] => {
                Command::new("thin_delta").arguments(["--metadata-snap", "--thin1", base, "--thin2", number])
            }
            _ => Command::new("thin_dump").arguments(["--metadata-snap", "--dev-id"]).arguments(&numbers),
        };
        let command = command.argument(&held.device);
        let (sender, receiver) = mpsc::channel(1);
        let (ran, read) = tokio::join!(
            self.commands.stream(&command, sender),
            self.hand_on(&command, receiver, held.chunk_bytes, found)
        );
        ran?;
        read
    }

    /// Reads what the tool prints. Its output is dropped, which ends it, as soon as something is wrong.
    async fn hand_on(
        &self,
        command: &Command,
        mut text: Receiver<Vec<u8>>,
        chunk_bytes: u64,
        found: &Sender<Vec<Range<u64>>>,
    ) -> Result<()> {
        let nonsense = |problem| Error::Command(CommandError::Nonsense { command: command.to_string(), problem });
        let (at_once, in_all) = PATIENCE;
        let (mut mappings, end) = (Mappings::default(), Instant::now() + in_all);
        loop {
            let piece = text.recv().await;
            let is_last = piece.is_none();
            let chunks = match piece {
                Some(piece) => mappings.take(&piece).map_err(nonsense)?,
                None => std::mem::take(&mut mappings).end().map_err(nonsense)?.into_iter().collect(),
            };
            let bytes =
                |chunks: Range<u64>| chunks.start.saturating_mul(chunk_bytes)..chunks.end.saturating_mul(chunk_bytes);
            let ranges: Vec<Range<u64>> = chunks.into_iter().map(bytes).collect();
            if !ranges.is_empty() {
                let Ok(sent) = timeout_at(end.min(Instant::now() + at_once), found.send(ranges)).await else {
                    let problem = format!(
                        "nobody took what was found within {} s, or all of it within {} s; ask again from where it ended",
                        at_once.as_secs(),
                        in_all.as_secs()
                    );
                    return Err(Error::Unavailable { problem });
                };
                if sent.is_err() {
                    return Ok(());
                }
            }
            if self.detached.is_closed() {
                return Err(Error::Unavailable {
                    problem: String::from("the node is ending; ask again from where it ended"),
                });
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Its number within its pool.
fn number((group, logical): (&Arc<VolumeGroup>, &Arc<LogicalVolume>)) -> Result<u64> {
    logical.thin.as_ref().map(|thin| thin.device_id).ok_or_else(|| not_in_a_pool(group, logical))
}

fn not_in_a_pool(group: &VolumeGroup, logical: &LogicalVolume) -> Error {
    Error::precondition(format!("{}/{} is not in a thin pool", group.name, logical.name))
}

fn pool_of<'g>(group: &'g VolumeGroup, logical: &LogicalVolume) -> Result<&'g Arc<LogicalVolume>> {
    group.pool_of(logical).ok_or_else(|| not_in_a_pool(group, logical))
}
