//! Thin snapshots as device-mapper has them, of which CSI's snapshots and the copies within a pool are made.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::names::fits_device_mapper;
use crate::lvm::pool;
use crate::lvm::writer::{Activation, NewSnapshot, Turn};
use crate::node::Node;
use crate::node::copy::ensure_log_is_whole;
use crate::node::placement::why_closed_to_new;

/// What a thin snapshot is made of: a volume or another snapshot.
#[derive(Debug, Clone)]
pub(in crate::node) struct Origin {
    /// The group it is in.
    pub(in crate::node) group: Arc<VolumeGroup>,
    /// The logical volume.
    pub(in crate::node) logical: Arc<LogicalVolume>,
}

impl Origin {
    /// What was found earlier, as it is now.
    pub(super) fn now<'v>(&self, view: &'v View) -> Result<(&'v Arc<VolumeGroup>, &'v Arc<LogicalVolume>)> {
        let (group, name) = (&self.group.name, &self.logical.name);
        let now = view.logical_volume_in(group, name);
        now.filter(|(_, logical)| logical.uuid == self.logical.uuid)
            .ok_or_else(|| Error::Unavailable { problem: format!("{group}/{name} was there, but is not now") })
    }
}

impl Node {
    /// Makes a thin snapshot of so many extents, not less than its origin has, under a name that is free; answers with the
    /// groups after it.
    pub(in crate::node) async fn cut(
        &self,
        origin: &Origin,
        extents: u64,
        logical_name: &str,
        tags: &[String],
    ) -> Result<Arc<View>> {
        let group = origin.group.name.as_str();
        if !fits_device_mapper(group, logical_name) {
            return Err(Error::invalid("name", format!("is too long beside the name of volume group {group}")));
        }
        if let Some(rules) = self.pool_rules(group, &origin.logical)
            && let (Some(reason), _) = self.readiness(&origin.group, &rules).await?
        {
            // A full pool may never take what is in memory.
            return Err(Error::NoRoom { reason });
        }
        self.write_out(&origin.group, &origin.logical).await?;
        let turn = self.writer.turn(group).await;
        let mut view = self.mended(&turn, self.groups.read().await?, group).await?;
        if let Some((there, left)) = view.logical_volume_in(group, logical_name) {
            self.make_way(&turn, there, left, tags).await?;
            view = self.groups.read().await?;
        }
        let (now, logical) = origin.now(&view)?;
        ensure_log_is_whole(now, logical)?;
        let Some(rules) = self.pool_rules(group, logical) else {
            return Err(Error::precondition(format!(
                "{group}/{} is not in a thin pool; only thin volumes have snapshots and clones yet",
                logical.name
            )));
        };
        let (trouble, activation) = self.readiness(now, &rules).await?;
        let room = why_closed_to_new(now).map_or_else(|| pool::room(now, &rules, 0), Err);
        let reason = trouble.or_else(|| match room {
            Ok(most) if extents <= most => None,
            Ok(most) => Some(format!(
                "{} bytes may be needed, and thin pool {group}/{} takes {} more at most",
                extents * now.extent_bytes,
                rules.name,
                most * now.extent_bytes
            )),
            Err(reason) => Some(reason),
        });
        if let Some(reason) = reason {
            return Err(Error::NoRoom { reason });
        }
        let new = NewSnapshot { origin: &logical.name, name: logical_name, tags };
        let snapshot = async |activation| {
            let command = |given_up| self.writer.snapshot(&turn, now, new, activation, given_up);
            self.held_briefly(now, logical, command).await
        };
        let mut made = snapshot(activation).await;
        if made.as_ref().is_err_and(|error| !matches!(error, Error::Unavailable { .. }))
            && activation.mark.is_some()
            && let Ok((_, activation)) = self.readiness(now, &rules).await
            && activation.mark.is_none()
        {
            // What users wrote meanwhile brought the pool to its mark, at which lvm refuses.
            made = snapshot(activation).await;
        }
        if made.is_ok() && extents > logical.extents {
            made =
                self.writer.extend(&turn, now, logical_name, extents, Activation::default()).await.map_err(Error::from);
        }
        self.reaper.changed(group);
        self.keep_running(&turn, now, logical).await?;
        drop(turn);
        let (after, flushed) = tokio::join!(self.groups.read(), self.writer.flush(now));
        let after = after?;
        let cut = after.group(group).and_then(|group| group.logical_volume(logical_name));
        if cut.is_none_or(|cut| cut.extents < extents || cut.is_unsent()) {
            made?;
            return Err(Error::Internal {
                problem: format!("lvcreate ended well, but {logical_name} is not as it should be"),
            });
        }
        flushed?;
        Ok(after)
    }

    /// Sets a device going that a command which broke off has left suspended, of a volume or a pool: whoever uses it would wait for
    /// ever.
    pub(in crate::node) async fn keep_running(
        &self,
        turn: &Turn,
        group: &VolumeGroup,
        logical: &LogicalVolume,
    ) -> Result<()> {
        let is_pool = logical.pool.is_some();
        let uuid = if is_pool { logical.pool_mapper_uuid(group) } else { logical.mapper_uuid(group) };
        let device = self.device_of(&uuid).await?;
        if device.is_some_and(|device| device.suspended) {
            // What cannot be done now the reaper goes on trying.
            self.refresh(turn, group, logical).await.inspect_err(|_| self.reaper.wake())?;
        }
        Ok(())
    }
}
