//! Thin pools: making them, and what the rules of the classes say of one.
//!
//! - [`cut`]: thin snapshots
//! - [`activation`]: making them active, at the start
//! - [`blocks`]: what a pool holds of a volume, read from its metadata
//! - [`state`], [`trouble`], [`health`]: how a pool is, what of it keeps volumes away and what its users are told
//! - [`mend`]: after an lvm that died half-way
//! - [`figures`]: what is measured
//! - [`watch`], [`grow`]: waiting for the kernel's word that one fills, and growing it

pub mod activation;
pub mod blocks;
pub mod cut;
pub mod figures;
pub mod grow;
pub mod health;
pub mod mend;
pub mod state;
pub mod trouble;
pub mod watch;

use std::sync::Arc;

use crate::config::classes::Class;
use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::layout::Layout;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::pool::{PoolRules, is_unmade_pool};
use crate::lvm::tags::pool_tags;
use crate::lvm::writer::Turn;
use crate::node::Node;

impl Node {
    /// What the classes say of a pool, or of the one that a thin volume is in; where none does, that nothing more is promised of
    /// it.
    pub(super) fn pool_rules(&self, group: &str, logical: &LogicalVolume) -> Option<PoolRules> {
        let own = logical.pool.as_ref().map(|_| &logical.name);
        let pool = logical.thin.as_ref().map(|thin| &thin.pool).or(own)?;
        Some(self.rules_of(group, pool).unwrap_or_else(|| PoolRules {
            name: pool.clone(),
            grow_at: 100,
            ..PoolRules::default()
        }))
    }

    /// What the classes say of the pool of that name in a group.
    fn rules_of(&self, group: &str, pool: &str) -> Option<PoolRules> {
        self.class_of_pool(group, pool).map(|(_, rules)| rules)
    }

    /// The class whose volumes are in the pool of that name, and its rules: those that share a pool say the same of it.
    fn class_of_pool(&self, group: &str, pool: &str) -> Option<(Class, PoolRules)> {
        let classes = self.classes.current();
        let of_class = |class: &Class| match &class.layout {
            Layout::Thin(rules) if rules.name == pool && class.uses(group) => Some((class.clone(), rules.clone())),
            _ => None,
        };
        classes.iter().find_map(of_class)
    }

    /// The group with the pool of the class in it, which is made if it is not there.
    pub(super) async fn with_pool(
        &self,
        turn: &Turn,
        group: &Arc<VolumeGroup>,
        class: &Class,
    ) -> Result<Arc<VolumeGroup>> {
        let Layout::Thin(rules) = &class.layout else { return Ok(Arc::clone(group)) };
        let mut group = Arc::clone(group);
        match group.logical_volume(&rules.name) {
            Some(there) if is_unmade_pool(there) => {
                self.remove_broken_off(turn, &group, there).await?;
                group = self.groups.read().await?.group(&group.name).cloned().unwrap_or(group);
            }
            Some(_) => return Ok(group),
            None => {}
        }
        let group = &group;
        let Some(size) = rules.new_pool(group, class.usable_extents(group)) else {
            return Err(Error::NoRoom {
                reason: format!("there is no room for thin pool {}/{}", group.name, rules.name),
            });
        };
        let made = self.writer.create_pool(turn, group, rules, size, &pool_tags(&self.identity.driver)).await;
        self.reaper.changed(&group.name);
        let after = self.groups.read().await?;
        let pool = |view: &View| {
            let group = view.group(&group.name)?;
            group.logical_volume(&rules.name)?.pool.as_ref()?;
            Some(Arc::clone(group))
        };
        let Some(now) = pool(&after) else {
            made?;
            let problem = format!("lvcreate ended well, but there is no thin pool {}/{}", group.name, rules.name);
            return Err(Error::Internal { problem });
        };
        self.writer.flush(&now).await?;
        self.new_pool.notify_one();
        tracing::info!(group = now.name, pool = rules.name, ?size, "made a thin pool");
        Ok(now)
    }
}
