//! The moment of a group snapshot: all volumes are held, each snapshot gets what its volume holds, the volumes go on.
//!
//! lvm alone cannot do it, since it sets each volume going when its snapshot is made. So the snapshots are there already, with
//! all that lvm knows of them, and what is behind each, a device of that number in the pool, is deleted and made anew by
//! messages to the pool. lvm counts only its own changes of a pool and does not notice.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, ThinVolume, VolumeGroup};
use crate::lvm::names::member_name;
use crate::lvm::writer::Turn;
use crate::node::Node;
use crate::node::pools::trouble::trouble;
use crate::node::volume::Volume;

/// A snapshot that gets what its volume holds.
struct Exchange<'v> {
    group: &'v Arc<VolumeGroup>,
    volume: &'v LogicalVolume,
    /// UUID of the volume's device.
    device: String,
    /// UUID of the pool's device.
    pool_device: String,
    pool: &'v LogicalVolume,
    /// The numbers of both within the pool.
    snapshot_id: u64,
    volume_id: u64,
}

impl Node {
    /// Gives the group's snapshots what their volumes hold at one moment. The caller has the turns of their volume groups: a
    /// command that grows a pool, say, would set the volumes in it going.
    pub(super) async fn exchange(&self, turns: &BTreeMap<String, Turn>, name: &str, volumes: &[Volume]) -> Result<()> {
        let view = self.groups.read().await?;
        let mut exchanges = Vec::with_capacity(volumes.len());
        for volume in volumes {
            exchanges.extend(self.exchange_of(&view, name, volume).await?);
        }
        let devices: Vec<String> = exchanges.iter().map(|exchange| exchange.device.clone()).collect();
        let begun = Instant::now();
        let holding = self.hold_back(&devices).await?;
        let done = holding.during(self.exchange_held(&exchanges)).await;
        holding.let_go().await;
        let (held, seconds) = (devices.len(), begun.elapsed().as_secs_f64());
        tracing::info!(name, held, seconds, whole = done.is_ok(), "took a group snapshot");
        let mut going = Ok(());
        for Exchange { group, volume, .. } in &exchanges {
            if let Some(turn) = turns.get(&group.name) {
                going = going.and(self.keep_running(turn, group, volume).await);
            }
        }
        done.and(going)
    }

    /// What is to be done for one of the volumes; nothing where it is not active: nobody writes to it, and its snapshot holds
    /// what it holds. It stays so while the caller has its lock.
    async fn exchange_of<'v>(&self, view: &'v View, name: &str, volume: &Volume) -> Result<Option<Exchange<'v>>> {
        let gone = || Error::Unavailable { problem: format!("{} was there, but is not now", volume.full_name()) };
        let group = view.group(&volume.group.name).ok_or_else(gone)?;
        let now = group.logical_volume(&volume.logical.name).filter(|now| now.uuid == volume.logical.uuid);
        let snapshot = group.logical_volume(&member_name(name, &volume.logical.name));
        let (now, snapshot) = now.zip(snapshot).ok_or_else(gone)?;
        let (of_volume, of_snapshot) = now.thin.as_ref().zip(snapshot.thin.as_ref()).ok_or_else(gone)?;
        let device = now.mapper_uuid(group);
        if self.device_of(&device).await?.is_none() {
            return Ok(None);
        }
        let pool = pool_of_both(group, of_volume, of_snapshot).ok_or_else(gone)?;
        Ok(Some(Exchange {
            group,
            volume: now,
            device,
            pool_device: pool.pool_mapper_uuid(group),
            pool,
            snapshot_id: of_snapshot.device_id,
            volume_id: of_volume.device_id,
        }))
    }

    async fn exchange_held(&self, exchanges: &[Exchange<'_>]) -> Result<()> {
        for Exchange { pool_device, snapshot_id, volume_id, group, volume, .. } in exchanges {
            for message in [format!("delete {snapshot_id}"), format!("create_snap {snapshot_id} {volume_id}")] {
                self.kernel.message(pool_device, &message).await.map_err(|source| {
                    let what = format!("the thin pool of {}/{} did not {message}", group.name, volume.name);
                    Error::kernel(what, source)
                })?;
            }
        }
        for Exchange { group, volume, pool, device, .. } in exchanges {
            // The kernel says only so that a pool could not keep what it was told.
            if let Some(trouble) = self.pool_status(group, pool).await?.as_ref().and_then(trouble) {
                return Err(Error::NoRoom { reason: format!("thin pool {}/{} {trouble}", group.name, pool.name) });
            }
            // Whoever set one going meanwhile, by hand perhaps: then the snapshots are not of one moment.
            if self.device_of(device).await?.is_none_or(|device| !device.suspended) {
                return Err(Error::Unavailable {
                    problem: format!("{}/{} was set going by somebody else; try again", group.name, volume.name),
                });
            }
        }
        Ok(())
    }
}

/// The pool of a volume and of its snapshot.
fn pool_of_both<'g>(
    group: &'g VolumeGroup,
    volume: &ThinVolume,
    snapshot: &ThinVolume,
) -> Option<&'g Arc<LogicalVolume>> {
    group.logical_volume(&volume.pool).filter(|pool| pool.name == snapshot.pool)
}
