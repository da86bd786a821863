//! Volumes that nobody names, and which of them may be removed without asking a person. Pure.
//!
//! What is read must have been read in this order: the volumes, then what names them. A volume that is made meanwhile is
//! then not judged at all.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::csi::v1;
use crate::csi::volume_facts::VolumeFacts;
use crate::lvm::tags::Claim;
use crate::lvm::volume_id::VolumeId;

/// So young a volume may be about to be named.
const YOUNG: Duration = Duration::from_mins(2);
/// Characters of a claim's uid, with which the name of a volume ends that a provisioner had made.
const UID_LENGTH: usize = 36;

/// A volume of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: VolumeId,
    /// Its size.
    pub bytes: u64,
    /// What else is known of it.
    pub facts: VolumeFacts,
}

impl Listed {
    /// What a list says; `None` for what has no id of ours.
    pub fn of(volume: &v1::Volume) -> Option<Self> {
        let bytes = u64::try_from(volume.capacity_bytes).unwrap_or_default();
        let facts = VolumeFacts::of_context(&volume.volume_context);
        Some(Self { id: VolumeId::parse(&volume.volume_id)?, bytes, facts })
    }

    /// The uid of the claim for which a provisioner had it made; `None` when it was made otherwise.
    pub fn claim_uid(&self) -> Option<&str> {
        let name = self.facts.name.as_deref()?;
        let (prefix, uid) = name.split_at_checked(name.len().checked_sub(UID_LENGTH)?)?;
        let groups: Vec<&str> = uid.split('-').collect();
        let is_uid = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
            && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit());
        (prefix.ends_with('-') && is_uid).then_some(uid)
    }

    fn is_young(&self, now: u64) -> bool {
        self.facts.created.is_some_and(|created| now < created.saturating_add(YOUNG.as_secs()))
    }
}

/// A `PersistentVolume` of this driver, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// The id of the volume that it names.
    pub handle: String,
    /// The claim that it is bound to or kept for, and that claim's uid if it was bound.
    pub claim: Option<(Claim, Option<String>)>,
}

/// Why a volume is an orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No `PersistentVolume` names it, and the claim that it was made for does not exist.
    Unnamed,
    /// The `PersistentVolume` of its name names another volume, which exists.
    Double {
        /// The id of that one.
        of: String,
    },
    /// A `PersistentVolume` names it as a volume of another node, which does not have it (or cannot be asked): its volume
    /// group was moved.
    Moved {
        /// The id by which it is named.
        named: String,
    },
}

/// A volume that no `PersistentVolume` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The volume.
    pub volume: Listed,
    /// Why it is one.
    pub standing: Standing,
}

impl Orphan {
    /// Whether nothing can be lost with it and nobody can be waiting for it: a provisioner had it made, it was never used,
    /// and neither claim nor `PersistentVolume` knows it.
    pub fn may_go(&self) -> bool {
        self.standing == Standing::Unnamed && self.volume.facts.never_used && self.volume.claim_uid().is_some()
    }
}

/// The volumes without a `PersistentVolume`; only for these it matters which claims there are.
pub fn unnamed(listed: &[Listed], references: &[Reference], now: u64) -> Vec<Listed> {
    let handles: HashSet<&str> = references.iter().map(|reference| reference.handle.as_str()).collect();
    let is_unnamed = |volume: &&Listed| !volume.is_young(now) && !handles.contains(volume.id.to_string().as_str());
    listed.iter().filter(is_unnamed).cloned().collect()
}

/// The orphans among the unnamed. `claims` are the uids of all claims: one that exists without its `PersistentVolume` is
/// being provisioned.
pub fn orphans(
    unnamed: Vec<Listed>,
    listed: &[Listed],
    references: &[Reference],
    claims: &BTreeSet<String>,
) -> Vec<Orphan> {
    let exists: HashSet<String> = listed.iter().map(|volume| volume.id.to_string()).collect();
    let by_logical_volume: HashMap<String, &str> = references
        .iter()
        .filter_map(|reference| Some((VolumeId::parse(&reference.handle)?.logical_volume, reference.handle.as_str())))
        .collect();
    let judged = unnamed.into_iter().filter_map(|volume| {
        let standing = match by_logical_volume.get(&volume.id.logical_volume) {
            Some(of) if exists.contains(*of) => Standing::Double { of: (*of).to_owned() },
            Some(named) => Standing::Moved { named: (*named).to_owned() },
            None if volume.claim_uid().is_some_and(|uid| claims.contains(uid)) => return None,
            None => Standing::Unnamed,
        };
        Some(Orphan { volume, standing })
    });
    judged.collect()
}

/// How long each orphan has been one without a break, as far as this process has seen: its age says nothing of that.
#[derive(Debug, Default)]
pub struct Waiting(HashMap<String, Instant>);

impl Waiting {
    /// Those that may go and have been orphans all the time of the grace; a grace of zero lets none go.
    ///
    /// Where not one `PersistentVolume` of the driver exists, the cluster has lost them or is a new one: then none may go.
    pub fn due(&mut self, orphans: &[Orphan], references: &[Reference], grace: Duration) -> Vec<Orphan> {
        let now = Instant::now();
        let ids: HashSet<String> = orphans.iter().map(|orphan| orphan.volume.id.to_string()).collect();
        self.0.retain(|id, _| ids.contains(id));
        for id in ids {
            self.0.entry(id).or_insert(now);
        }
        if grace.is_zero() || references.is_empty() {
            return Vec::new();
        }
        let has_waited = |orphan: &&Orphan| {
            self.0.get(&orphan.volume.id.to_string()).is_some_and(|since| now.duration_since(*since) >= grace)
        };
        orphans.iter().filter(|orphan| orphan.may_go()).filter(has_waited).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
