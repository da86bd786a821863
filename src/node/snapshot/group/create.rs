//! `CreateVolumeGroupSnapshot`: all snapshots or none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Found, GroupSnapshot, by_group};
use crate::csi::request::group::CreateGroupSnapshot;
use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::names::{group_snapshot_name, member_name};
use crate::lvm::tags::snapshot::{SnapshotTags, taken_tag};
use crate::lvm::tags::{KIND_INCOMPLETE, KIND_SNAPSHOT};
use crate::lvm::writer::Turn;
use crate::node::Node;
use crate::node::pools::cut::Origin;
use crate::node::volume::Volume;

impl Node {
    /// Makes a group snapshot, or answers with the one of that name.
    pub async fn create_group_snapshot(self: &Arc<Self>, create: CreateGroupSnapshot) -> Result<GroupSnapshot> {
        let CreateGroupSnapshot { name, node: there, sources } = create;
        if there != self.identity.topology {
            return Err(Error::no_volume(&format!("{there}/{}", sources.concat())));
        }
        let (node, id_name, of) = (Arc::clone(self), group_snapshot_name(&name), name.clone());
        let making = async move { node.create_group(&id_name, name, &sources).await.map_err(Error::of_snapshot) };
        self.mutate(&group_snapshot_name(&of), "creating", making).await
    }

    async fn create_group(&self, id_name: &str, name: String, sources: &[String]) -> Result<GroupSnapshot> {
        let view = self.groups.read().await?;
        if let Some(out_of_reach) = self.why_no_group(&view, id_name).await {
            return Err(out_of_reach);
        }
        let found = Found::of(&view, id_name);
        if !found.whole.is_empty() {
            return self.existing_group(&view, name, sources, found).await;
        }
        // What a try that broke off left holds what no two volumes held together.
        self.remove_snapshots(found.all()).await?;
        // While one is being formatted, grown or deleted there is no moment to hold on to.
        let take = |source: &String| self.locks.take(source, "making a group snapshot");
        let held = sources.iter().map(take).collect::<Result<Vec<_>>>()?;
        let mut volumes = Vec::with_capacity(sources.len());
        for source in sources {
            volumes.push(self.volume(source).await?);
        }
        if let Some(thick) = volumes.iter().find(|volume| volume.logical.thin.is_none()) {
            return Err(Error::precondition(format!(
                "volume {} is not thin; only thin volumes can be held together with others for a group snapshot",
                thick.full_name()
            )));
        }
        match self.take_group(id_name, &name, &volumes).await {
            Ok(group) => Ok(group),
            Err(error) => {
                // One volume group may hang, and the volumes of the others be wanted.
                drop(held);
                self.settle_incomplete(id_name).await.unwrap_or_else(|left| {
                    tracing::warn!(error = %left, group = name, "could not remove what is left of a group snapshot; trying later");
                });
                Err(error)
            }
        }
    }

    async fn take_group(&self, id_name: &str, name: &str, volumes: &[Volume]) -> Result<GroupSnapshot> {
        let groups: BTreeSet<&String> = volumes.iter().map(|volume| &volume.group.uuid).collect();
        let turns = || self.turns(volumes.iter().map(|volume| volume.group.name.as_str()));
        // Of a volume group that hangs nothing is begun.
        drop(turns().await?);
        for Volume { group, logical, tags } in volumes {
            let of_volume = SnapshotTags::of_volume(name, &logical.name, tags, &self.identity.driver);
            let beside = groups.iter().copied().filter(|uuid| **uuid != group.uuid).cloned().collect();
            let tags = SnapshotTags { group: Some(name.to_owned()), beside, ..of_volume };
            let origin = Origin { group: Arc::clone(group), logical: logical.clone() };
            let member = member_name(name, &logical.name);
            self.cut(&origin, logical.extents, &member, &tags.to_incomplete_tags()).await?;
        }
        let turns = turns().await?;
        self.exchange(&turns, name, volumes).await?;
        let taken = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.complete(&turns, id_name, taken).await
    }

    /// Takes the marks away. From the first one on the group is there.
    async fn complete(&self, turns: &BTreeMap<String, Turn>, id_name: &str, taken: u64) -> Result<GroupSnapshot> {
        let view = self.groups.read().await?;
        let mut changed = Ok(());
        for (group, names) in by_group(&Found::of(&view, id_name).incomplete).into_values() {
            let Some(turn) = turns.get(&group.name) else {
                return Err(Error::Internal {
                    problem: format!("a snapshot of {id_name} is in volume group {}", group.name),
                });
            };
            let (add, remove) = ([String::from(KIND_SNAPSHOT), taken_tag(taken)], [String::from(KIND_INCOMPLETE)]);
            changed = self.writer.change_tags_of_all(turn, group, &names, &add, &remove).await;
            self.reaper.changed(&group.name);
            if changed.is_err() {
                break;
            }
        }
        let after = self.groups.read().await?;
        let Found { whole, incomplete } = Found::of(&after, id_name);
        if let Some(left) = incomplete.first() {
            changed?;
            return Err(Error::Internal { problem: format!("{} took no tag", left.logical.name) });
        }
        for (group, _) in by_group(&whole).into_values() {
            self.writer.flush(group).await?;
        }
        let name = whole.first().and_then(|first| first.tags.group.clone());
        let name = name.ok_or_else(|| Error::Internal { problem: format!("{id_name} is gone after it was made") })?;
        Ok(GroupSnapshot { name, members: whole })
    }

    async fn existing_group(
        &self,
        view: &View,
        name: String,
        sources: &[String],
        found: Found,
    ) -> Result<GroupSnapshot> {
        let of: BTreeSet<&str> = found.all().map(|snapshot| snapshot.tags.source.as_str()).collect();
        if !of.iter().eq(sources) {
            let ids: Vec<String> = of.into_iter().map(|source| self.volume_id(source)).collect();
            let difference = format!("it is of {}", ids.join(", "));
            return Err(Error::AlreadyExists { what: format!("group snapshot {name:?}"), difference });
        }
        // A crash may have come while a volume was suspended, between two commits, or before the flush.
        for source in sources {
            if let Some(volume) = Volume::find(view, source)? {
                self.running_device(&volume).await?;
            }
        }
        self.go_on_completing(&group_snapshot_name(&name), &found).await
    }

    /// Takes away the marks that a crash left in a group that is there.
    async fn go_on_completing(&self, id_name: &str, found: &Found) -> Result<GroupSnapshot> {
        let turns = self.turns(found.all().map(|snapshot| snapshot.group.name.as_str())).await?;
        let taken = found.whole.iter().map(super::VolumeSnapshot::taken).max().unwrap_or_default();
        self.complete(&turns, id_name, taken).await
    }

    /// Does with a group what has to be done when its making broke off: without a single whole snapshot what is left of it goes,
    /// with one the others are as good. The caller has its lock.
    async fn settle_incomplete(&self, id_name: &str) -> Result<()> {
        let view = self.groups.read().await?;
        let found = Found::of(&view, id_name);
        if found.incomplete.is_empty() {
            return Ok(());
        }
        if let Some(out_of_reach) = self.why_no_group(&view, id_name).await {
            return Err(out_of_reach);
        }
        if found.whole.is_empty() {
            return self.remove_snapshots(&found.incomplete).await;
        }
        self.go_on_completing(id_name, &found).await.map(drop)
    }

    /// The same for all of this driver: nobody asks for them by name any more, perhaps.
    pub(in crate::node) async fn settle_incomplete_groups(&self, view: &View) {
        let tags = view.groups.iter().flat_map(|group| &group.logical_volumes);
        let incomplete = tags.filter_map(|logical| SnapshotTags::parse_incomplete(&logical.tags));
        let ours = incomplete.filter(|tags| tags.driver.as_ref() == Some(&self.identity.driver));
        let names: BTreeSet<String> = ours.filter_map(|tags| Some(group_snapshot_name(&tags.group?))).collect();
        for id_name in names {
            // Who makes it has its lock.
            let Ok(_lock) = self.locks.take(&id_name, "looking for what is left of it") else { continue };
            if let Err(error) = self.settle_incomplete(&id_name).await {
                tracing::warn!(%error, group = id_name, "could not settle what is left of a group snapshot; trying later");
            }
        }
    }
}
