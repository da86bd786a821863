//! Growing a pool before it fills.

use crate::config::classes::Class;
use crate::error::{Error, Result};
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::pool::PoolRules;
use crate::lvm::pool::growth::{Growth, growth, is_behind};
use crate::lvm::tags::pool_tags;
use crate::lvm::writer::{Activation, Turn};
use crate::node::placement::{Room, room_to_grow};
use crate::node::pools::state::mark;
use crate::node::pools::trouble::{Trouble, trouble};
use crate::node::{Node, why_hidden};

impl Node {
    /// Whether this driver made the pool; others are their makers' to grow.
    pub(in crate::node) fn is_own_pool(&self, pool: &LogicalVolume) -> bool {
        pool_tags(&self.identity.driver).iter().all(|tag| pool.tags.contains(tag))
    }

    /// Grows the pool if it needs to; answers with what it needed.
    pub(super) async fn grow_pool(&self, group_name: &str, pool_name: &str) -> Result<Growth> {
        let turn = self.writer.turn(group_name).await;
        let view = self.groups.read().await?;
        let Some((group, pool)) = view.logical_volume_in(group_name, pool_name) else {
            // It is told once only that it fills, so that is not to be forgotten.
            let hidden = why_hidden(&view, group_name, &format!("thin pool {pool_name}"));
            return hidden.map_or(Ok(Growth::NotDue), Err);
        };
        let (Some((class, rules)), Some(mut status)) =
            (self.class_of_pool(group_name, pool_name), self.pool_status(group, pool).await?)
        else {
            return Ok(Growth::NotDue);
        };
        if !matches!(trouble(&status), None | Some(Trouble::DataFull | Trouble::MetadataFull | Trouble::MetadataLow)) {
            // Room is not what it lacks.
            return Ok(Growth::NotDue);
        }
        if is_behind(group, pool, &status) {
            // A command was ended before the kernel had what it gave the pool.
            self.refresh(&turn, group, pool).await?;
            tracing::info!(group = group_name, pool = pool_name, "its device has all the room now that lvm gave it");
            status = self.pool_status(group, pool).await?.unwrap_or(status);
        }
        let needed = growth(&rules, group, pool, &status, usable(group, &class));
        let Growth::To { metadata, data } = needed else { return Ok(needed) };
        let grown = self.extend_pool(&turn, group, (pool, &rules), (metadata, data)).await;
        self.reaper.changed(group_name);
        self.keep_running(&turn, group, pool).await?;
        drop(turn);
        let (after, flushed) = tokio::join!(self.groups.read(), self.writer.flush(group));
        let (after, status) = (after?, self.pool_status(group, pool).await?);
        let is_grown =
            after.logical_volume_in(group_name, pool_name).zip(status).is_some_and(|((group, pool), status)| {
                let extents = |name: &str| group.logical_volume(name).map_or(0, |volume| volume.extents);
                pool.extents >= data
                    && pool.pool.as_ref().is_some_and(|pool| extents(&pool.metadata) >= metadata)
                    && !is_behind(group, pool, &status)
            });
        if !is_grown {
            grown?;
            return Err(Error::Internal { problem: format!("thin pool {group_name}/{pool_name} did not grow") });
        }
        flushed?;
        tracing::info!(group = group_name, pool = pool_name, data, metadata, "grew a thin pool, to extents");
        Ok(needed)
    }

    async fn extend_pool(
        &self,
        turn: &Turn,
        group: &VolumeGroup,
        (pool, rules): (&LogicalVolume, &PoolRules),
        (metadata, data): (u64, u64),
    ) -> Result<()> {
        let activation = Activation { mark: mark(rules), waits: false };
        let has = pool.pool.as_ref().and_then(|pool| group.logical_volume(&pool.metadata)).map(|volume| volume.extents);
        if has.is_some_and(|has| has < metadata) {
            self.writer.extend_metadata(turn, group, &pool.name, metadata, activation).await?;
        }
        if data > pool.extents {
            self.writer.extend(turn, group, &pool.name, data, activation).await?;
        }
        Ok(())
    }
}

/// Extents that a pool of the class may take of its group.
pub(super) fn usable(group: &VolumeGroup, class: &Class) -> u64 {
    match room_to_grow(group, Some(class), None) {
        Room::Extents(extents) => extents,
        Room::None(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::classes::Classes;
    use crate::lvm::model::{MetadataArea, sample};

    #[test]
    fn a_group_that_takes_no_change_leaves_a_pool_nothing_to_grow_by() {
        let classes = Classes::single(&[String::from("vg")]).unwrap();
        let usable = |group: &VolumeGroup| usable(group, classes.default_class().unwrap());
        let sound = sample::group("vg", &[(100, 40)]);
        assert!(usable(&sound) > 0);
        let full = MetadataArea { used: sound.metadata_area.size / 2, ..sound.metadata_area };
        assert_eq!(usable(&VolumeGroup { metadata_area: full, ..sound.clone() }), 0);
        assert_eq!(usable(&VolumeGroup { status: vec![String::from("READ")], ..sound }), 0);
    }
}
