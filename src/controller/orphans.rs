//! Volumes that nobody names, and which of them may be removed without asking a person. Pure.
//!
//! What is read must have been read in this order: the volumes, then what names them. A volume that is made meanwhile is
//! then not judged at all.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::ambiguous::Ambiguous;
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

/// A `PersistentVolume` of a CSI driver, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its driver. Two of them may serve one machine, and give its volumes the same ids.
    pub driver: String,
    /// The id of the volume that it names.
    pub handle: String,
    /// The claim that it is bound to or kept for, and that claim's uid if it was bound.
    pub claim: Option<(Claim, Option<String>)>,
}

/// Whether the cluster knows any volume of the driver. One that knows none is new, or has lost what it knew.
pub fn knows_any(references: &[Reference], driver: &str) -> bool {
    references.iter().any(|reference| reference.driver == driver)
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
    /// It may be what is listed under that id, be it that two volumes have its own: who removes one may hit the other.
    Ambiguous {
        /// That id.
        with: String,
    },
    /// Its volume group is there, but not that node's to use.
    Unusable,
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
    /// Whether a person may remove it: it is surely nothing that is in use under another id.
    pub fn is_removable(&self) -> bool {
        matches!(self.standing, Standing::Unnamed | Standing::Double { .. })
    }

    /// Whether nothing can be lost with it and nobody can be waiting for it: a provisioner had it made for this driver, it
    /// was never used, and neither claim nor `PersistentVolume` knows it. What its node does not tell is not so.
    pub fn may_go(&self) -> bool {
        let facts = &self.volume.facts;
        let is_known = facts.uuid.is_some() && facts.driver.is_some() && facts.usable == Some(true);
        self.standing == Standing::Unnamed && is_known && facts.never_used && self.volume.claim_uid().is_some()
    }
}

/// The volumes that may be the driver's and have no `PersistentVolume`; only for these it matters which claims there are.
pub fn unnamed(listed: &[Listed], references: &[Reference], driver: &str, now: u64) -> Vec<Listed> {
    let handles: HashSet<&str> = references.iter().map(|reference| reference.handle.as_str()).collect();
    let may_be_ours = |volume: &Listed| volume.facts.driver.as_deref().is_none_or(|made_by| made_by == driver);
    let is_unnamed = |volume: &&Listed| {
        may_be_ours(volume) && !volume.is_young(now) && !handles.contains(volume.id.to_string().as_str())
    };
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
    let ambiguous = Ambiguous::of(listed);
    let mut by_logical_volume = HashMap::<String, Vec<VolumeId>>::new();
    for id in references.iter().filter_map(|reference| VolumeId::parse(&reference.handle)) {
        by_logical_volume.entry(id.logical_volume.clone()).or_default().push(id);
    }
    let judged = unnamed.into_iter().filter_map(|volume| {
        let named = by_logical_volume.get(&volume.id.logical_volume).map_or(&[][..], Vec::as_slice);
        let standing = match standing(&volume, &ambiguous, named) {
            Standing::Unnamed if volume.claim_uid().is_some_and(|uid| claims.contains(uid)) => return None,
            // It is known as a volume of the node whose group it is.
            Standing::Ambiguous { .. } if volume.facts.usable == Some(false) => return None,
            standing => standing,
        };
        Some(Orphan { volume, standing })
    });
    judged.collect()
}

/// `named` are the ids that `PersistentVolumes` give to volumes of its name.
fn standing(volume: &Listed, ambiguous: &Ambiguous<'_>, named: &[VolumeId]) -> Standing {
    if let Some(with) = ambiguous.with(volume) {
        return Standing::Ambiguous { with: with.to_string() };
    }
    if volume.facts.usable == Some(false) {
        return Standing::Unusable;
    }
    if let Some(missing) = named.iter().find(|id| ambiguous.get(id).is_none()) {
        return Standing::Moved { named: missing.to_string() };
    }
    let Some(of) = named.first().map(VolumeId::to_string) else { return Standing::Unnamed };
    // Only UUIDs prove that these are several logical volumes; nodes of older versions do not tell them.
    let mut all = named.iter().filter_map(|id| ambiguous.get(id)).chain([volume]);
    if all.all(|volume| volume.facts.uuid.is_some()) {
        Standing::Double { of }
    } else {
        Standing::Ambiguous { with: of }
    }
}

/// How long each orphan could have gone without a break, as far as this process has seen: its age says nothing of that.
#[derive(Debug, Default)]
pub struct Waiting(HashMap<String, Instant>);

impl Waiting {
    /// Those that may go and could have gone all the time of the grace; a grace of zero lets none go.
    pub fn due(&mut self, orphans: &[Orphan], grace: Duration) -> Vec<Orphan> {
        let now = Instant::now();
        let may_go: HashMap<String, &Orphan> = orphans
            .iter()
            .filter(|orphan| orphan.may_go())
            .map(|orphan| (orphan.volume.id.to_string(), orphan))
            .collect();
        self.0.retain(|id, _| may_go.contains_key(id));
        let waited = may_go.into_iter().filter(|(id, _)| {
            let since = *self.0.entry(id.clone()).or_insert(now);
            !grace.is_zero() && now.duration_since(since) >= grace
        });
        waited.map(|(_, orphan)| orphan.clone()).collect()
    }

    /// Nobody knows what was meanwhile: all wait anew.
    pub fn interrupt(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests;
