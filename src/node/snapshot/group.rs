//! Group snapshots: snapshots of several volumes at one moment, so that none shows a write that another one's volume was given
//! after one that it does not show.
//!
//! The snapshots are made one after the other, each marked as incomplete. Then all volumes are held back together, what each
//! snapshot holds is exchanged for what its volume holds now, and the volumes go on. Last the marks are taken away, and the
//! first one that is gone decides: before it the snapshots are nobody's and are removed, after it the others' marks only remain
//! to be taken away.
//!
//! - `create`, `delete`: the calls, and what becomes of a group that a crash cut off
//! - `exchange`: the moment
//! - `hold`: holding devices back, for a time that is bounded

mod create;
mod delete;
mod exchange;
mod hold;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::VolumeSnapshot;
use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::model::VolumeGroup;
use crate::lvm::names::group_snapshot_name;
use crate::lvm::tags::snapshot::SnapshotTags;
use crate::lvm::writer::Turn;
use crate::node::{Node, why_unread};

/// How long the turns of a group's volume groups are waited for. Callers wait a minute for the whole (external-snapshotter).
const PATIENCE: Duration = Duration::from_secs(15);

/// Snapshots of one moment.
#[derive(Debug, Clone)]
pub struct GroupSnapshot {
    /// The name that the CSI request gave it.
    pub name: String,
    /// One for each volume, by name.
    pub members: Vec<VolumeSnapshot>,
}

impl GroupSnapshot {
    /// When the volumes held what the snapshots hold, seconds since 1970.
    pub fn taken(&self) -> u64 {
        self.members.iter().map(VolumeSnapshot::taken).max().unwrap_or_default()
    }
}

/// What there is of a group, whole or not.
#[derive(Debug, Clone, Default)]
struct Found {
    /// Snapshots that anybody may have.
    whole: Vec<VolumeSnapshot>,
    /// Those that still bear the mark.
    incomplete: Vec<VolumeSnapshot>,
}

impl Found {
    /// What there is of the group whose id has this name in it.
    fn of(view: &View, id_name: &str) -> Self {
        let is_of_it = |tags: &SnapshotTags| is_of(tags, id_name);
        let mut found = Self::default();
        for group in &view.groups {
            for logical in &group.logical_volumes {
                let snapshot = |tags| VolumeSnapshot { group: Arc::clone(group), logical: logical.clone(), tags };
                if let Some(tags) = SnapshotTags::parse(&logical.tags).filter(is_of_it) {
                    found.whole.push(snapshot(tags));
                } else if let Some(tags) = SnapshotTags::parse_incomplete(&logical.tags).filter(is_of_it) {
                    found.incomplete.push(snapshot(tags));
                }
            }
        }
        found.whole.sort_by(|one, other| one.logical.name.cmp(&other.logical.name));
        found
    }

    /// All of them.
    fn all(&self) -> impl Iterator<Item = &VolumeSnapshot> {
        self.whole.iter().chain(&self.incomplete)
    }
}

/// Whether the tags are of a snapshot of the group whose id has this name in it.
fn is_of(tags: &SnapshotTags, id_name: &str) -> bool {
    tags.group.as_deref().is_some_and(|name| group_snapshot_name(name) == id_name)
}

/// What the tags of a snapshot of some group say, whole or not.
fn member(tags: &[String]) -> Option<SnapshotTags> {
    let tags = SnapshotTags::parse(tags).or_else(|| SnapshotTags::parse_incomplete(tags));
    tags.filter(|tags| tags.group.is_some())
}

/// Snapshots by their volume groups.
fn by_group<'s>(
    snapshots: impl IntoIterator<Item = &'s VolumeSnapshot>,
) -> BTreeMap<&'s str, (&'s Arc<VolumeGroup>, Vec<&'s str>)> {
    let mut groups: BTreeMap<&str, (&Arc<VolumeGroup>, Vec<&str>)> = BTreeMap::new();
    for snapshot in snapshots {
        let (_, names) = groups.entry(&snapshot.group.name).or_insert_with(|| (&snapshot.group, Vec::new()));
        names.push(&snapshot.logical.name);
    }
    groups
}

impl Node {
    /// The id of the group snapshot of that name.
    pub fn group_snapshot_id(&self, name: &str) -> String {
        self.volume_id(&group_snapshot_name(name))
    }

    /// The group snapshot with that id. `snapshot_ids` are those that the caller believes to be in it; none are not compared.
    pub async fn get_group_snapshot(&self, id: &str, snapshot_ids: &[String]) -> Result<GroupSnapshot> {
        let unknown = || Error::NotFound { what: format!("group snapshot {id:?}") };
        let id_name = self.logical_name(id).ok_or_else(unknown)?;
        let view = self.groups.read().await?;
        if let Some(out_of_reach) = self.why_no_group(&view, &id_name).await {
            return Err(out_of_reach);
        }
        let Found { whole, incomplete } = Found::of(&view, &id_name);
        let Some(name) = whole.first().and_then(|first| first.tags.group.clone()) else { return Err(unknown()) };
        if !incomplete.is_empty() {
            let operation = String::from("not all its snapshots are whole yet");
            return Err(Error::Busy { volume: id_name, operation });
        }
        let ids: BTreeSet<String> = whole.iter().map(|snapshot| self.volume_id(&snapshot.logical.name)).collect();
        let claimed: BTreeSet<String> = snapshot_ids.iter().cloned().collect();
        if !claimed.is_empty() && claimed != ids {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            return Err(Error::invalid("snapshot_ids", format!("the group snapshot holds {}", ids.join(", "))));
        }
        Ok(GroupSnapshot { name, members: whole })
    }

    /// Why what is of a group may not be all of it: the rest is in a volume group that cannot be reached, or may be.
    async fn why_no_group(&self, view: &View, id_name: &str) -> Option<Error> {
        let what = format!("group snapshot {id_name}");
        let is_here = |uuid: &&String| view.groups.iter().any(|group| group.uuid == **uuid);
        let found = Found::of(view, id_name);
        let mut beside = found.all().flat_map(|member| &member.tags.beside);
        if let Some(uuid) = beside.find(|uuid| !is_here(uuid)) {
            let problem = format!(
                "some of {what} is in the volume group with UUID {uuid}, which is not there now or cannot be used; attach its \
                 disks, or, if they never come back, take the tag quarry.beside={uuid} from the snapshots of the group that \
                 are left (lvchange --deltag)"
            );
            return Some(Error::Unavailable { problem });
        }
        let holds = |group: &VolumeGroup| {
            let mut members = group.logical_volumes.iter().filter_map(|logical| member(&logical.tags));
            members.any(|tags| is_of(&tags, id_name))
        };
        match self.why_unreachable(view, &what, holds).await {
            None if found.whole.is_empty() => why_unread(view, &what),
            out_of_reach => out_of_reach,
        }
    }

    /// The right to change several volume groups, in the order of their names: who needs more than one takes them so. While one
    /// is waited for the others are held up, so that is not done for long.
    async fn turns(&self, groups: impl IntoIterator<Item = &str>) -> Result<BTreeMap<String, Turn>> {
        let names: BTreeSet<&str> = groups.into_iter().collect();
        let (deadline, mut turns) = (Instant::now() + PATIENCE, BTreeMap::new());
        for name in names {
            let Ok(turn) = timeout_at(deadline, self.writer.turn(name)).await else {
                let seconds = PATIENCE.as_secs();
                let problem =
                    format!("what others do with volume group {name} did not end within {seconds} s; try again");
                return Err(Error::Unavailable { problem });
            };
            turns.insert(name.to_owned(), turn);
        }
        Ok(turns)
    }
}
