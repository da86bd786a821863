//! `PersistentVolumes` for volumes that exist on nodes and that the cluster has forgotten. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;
use sha2::{Digest, Sha256};

use super::ambiguous::Ambiguous;
use super::orphans::{Listed, Reference};
use super::storage_class::{NoStorageClass, StorageClasses};
use crate::config::driver_name::is_lower_case_domain;
use crate::csi::volume_facts::Content;
use crate::lvm::names::hexadecimal;
use crate::lvm::tags::Claim;

/// By this external-provisioner knows the `PersistentVolumes` whose volumes it deletes.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Longest name of an object, bytes.
const NAME_LIMIT: usize = 253;

/// What the `PersistentVolumes` are to be like.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The driver's name.
    pub driver: String,
    /// The key of the label that names a node of the driver.
    pub topology_key: String,
    /// `Retain` or `Delete`.
    pub reclaim_policy: &'static str,
    /// Which `StorageClass` they belong to.
    pub storage_classes: StorageClasses,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// To be applied.
    pub volumes: Vec<PersistentVolume>,
    /// What a person must know of volumes that are not among them or not as they were.
    pub notes: Vec<String>,
}

/// Makes them for all volumes that were used and that no `PersistentVolume` names, or for those of these `ids`, if there
/// are some.
pub fn recover(
    listed: &[Listed],
    references: &[Reference],
    ids: &[String],
    wanted: &Wanted,
) -> Result<Recovered, NoStorageClass> {
    let mut recovered = Recovered::default();
    let handles: HashSet<&str> = references.iter().map(|reference| reference.handle.as_str()).collect();
    let by_name: HashMap<&str, &Reference> =
        references.iter().map(|reference| (reference.name.as_str(), reference)).collect();
    let listed_ids: HashSet<String> = listed.iter().map(|volume| volume.id.to_string()).collect();
    for id in ids {
        if !listed_ids.contains(id) {
            recovered.notes.push(format!("{id}: there is no such volume"));
        } else if handles.contains(id.as_str()) {
            recovered.notes.push(format!("{id}: left out, for a PersistentVolume names it"));
        }
    }
    let is_missing = |volume: &&Listed| {
        let id = volume.id.to_string();
        !handles.contains(id.as_str()) && (ids.is_empty() || ids.contains(&id))
    };
    let mut missing: Vec<&Listed> = listed.iter().filter(is_missing).collect();
    // The youngest of those that one claim had is the one that it had last; it comes first.
    missing.sort_by_key(|volume| (std::cmp::Reverse(volume.facts.created), volume.id.to_string()));
    // Where the other node cannot use it, it is clear whose volume it is.
    let ambiguous = Ambiguous::of(listed.iter().filter(|volume| volume.facts.usable != Some(false)));
    let served = references.iter().filter_map(|reference| reference.claim.as_ref());
    let mut claims = served.map(|(claim, _)| (claim.clone(), Owner::Named)).collect();
    let (mut names, mut unused) = (HashSet::new(), 0);
    for volume in missing {
        let id = volume.id.to_string();
        if let Some(problem) = why_not(volume, &ambiguous, &wanted.driver) {
            recovered.notes.push(format!("{id}: left out, for {problem}"));
            continue;
        }
        if volume.facts.never_used {
            unused += 1;
            continue;
        }
        let mut name = own_name(volume);
        if let Some(reference) = by_name.get(name.as_str()) {
            let named = &reference.handle;
            recovered.notes.push(format!("{id}: left out, for PersistentVolume {name} exists and names {named}"));
            continue;
        }
        if !names.insert(name.clone()) {
            name = derived_name(&id);
        }
        let (claim, problem) = claim_for(volume, &name, &mut claims);
        if let Some(problem) = problem {
            recovered.notes.push(format!("{id}: {problem}; kept for a claim {}/{}", claim.namespace, claim.name));
        }
        recovered.volumes.push(manifest(volume, name, claim, wanted)?);
    }
    if unused > 0 {
        recovered.notes.push(format!("left out: {unused} that were never used, so nothing is on them"));
    }
    recovered.volumes.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    Ok(recovered)
}

/// What a claim has already.
#[derive(Debug, Clone, Copy)]
enum Owner {
    /// The volume of a `PersistentVolume` that exists.
    Named,
    /// One of those that are being recovered.
    Recovered,
}

/// Why a volume can be given to nobody.
fn why_not(volume: &Listed, ambiguous: &Ambiguous<'_>, driver: &str) -> Option<String> {
    if let Some(made_by) = volume.facts.driver.as_deref().filter(|made_by| *made_by != driver) {
        return Some(format!("driver {made_by} made it"));
    }
    if volume.facts.usable == Some(false) {
        return Some(String::from("its volume group is not that node's to use"));
    }
    match ambiguous.with(volume)? {
        with if *with == volume.id => Some(String::from("its node has two volumes of this id; rename one")),
        with => Some(format!("the same logical volume is listed as {with}; take it away from one of the nodes")),
    }
}

/// The claim that a volume had. Where that is not known or was given to another volume, one that does not exist, and why:
/// without any it would be given to the next claim that comes along, and that claim's user its data.
fn claim_for(volume: &Listed, name: &str, taken: &mut HashMap<Claim, Owner>) -> (Claim, Option<String>) {
    let problem = match &volume.facts.claim {
        None => String::from("which claim it had is not known"),
        Some(claim) => {
            let Claim { namespace, name } = claim;
            match taken.get(claim) {
                None => {
                    taken.insert(claim.clone(), Owner::Recovered);
                    return (claim.clone(), None);
                }
                Some(Owner::Named) => format!("claim {namespace}/{name} has another volume"),
                Some(Owner::Recovered) => format!("a younger volume was claim {namespace}/{name}'s, too"),
            }
        }
    };
    (Claim { namespace: String::from("default"), name: name.to_owned() }, Some(problem))
}

fn manifest(volume: &Listed, name: String, claim: Claim, wanted: &Wanted) -> Result<PersistentVolume, NoStorageClass> {
    let facts = &volume.facts;
    let mode = if facts.content == Some(Content::Block) { "Block" } else { "Filesystem" };
    let file_system = match &facts.content {
        Some(Content::FileSystem(word)) => Some(word.clone()),
        Some(Content::Block) | None => None,
    };
    let storage_class = wanted.storage_classes.of(facts)?;
    let mount_options = Some(storage_class.mount_options).filter(|options| !options.is_empty() && mode != "Block");
    let on_its_node = NodeSelectorRequirement {
        key: wanted.topology_key.clone(),
        operator: String::from("In"),
        values: Some(vec![volume.id.node.clone()]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![on_its_node]), ..NodeSelectorTerm::default() };
    let access = if facts.single_user { "ReadWriteOncePod" } else { "ReadWriteOnce" };
    Ok(PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name),
            annotations: Some([(String::from(PROVISIONED_BY), wanted.driver.clone())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            capacity: Some(BTreeMap::from([(String::from("storage"), quantity(volume.bytes))])),
            access_modes: Some(vec![String::from(access)]),
            // Without a uid: the next claim of that name gets it.
            claim_ref: Some(ObjectReference {
                api_version: Some(String::from("v1")),
                kind: Some(String::from("PersistentVolumeClaim")),
                namespace: Some(claim.namespace),
                name: Some(claim.name),
                ..ObjectReference::default()
            }),
            csi: Some(CSIPersistentVolumeSource {
                driver: wanted.driver.clone(),
                volume_handle: volume.id.to_string(),
                fs_type: file_system,
                ..CSIPersistentVolumeSource::default()
            }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector { node_selector_terms: vec![term] }),
            }),
            persistent_volume_reclaim_policy: Some(wanted.reclaim_policy.to_owned()),
            storage_class_name: Some(storage_class.name),
            mount_options,
            volume_mode: Some(mode.to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    })
}

/// A size as Kubernetes writes it.
fn quantity(bytes: u64) -> Quantity {
    let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki"), (1, "")];
    let (unit, word) = units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit)).unwrap_or((1, ""));
    Quantity(format!("{}{word}", bytes / unit))
}

/// The name that the volume's `PersistentVolume` had: the CSI name, if an object can have it.
fn own_name(volume: &Listed) -> String {
    let name = volume.facts.name.as_deref().unwrap_or(&volume.id.logical_volume);
    if is_object_name(name) { name.to_owned() } else { derived_name(&volume.id.to_string()) }
}

fn derived_name(id: &str) -> String {
    format!("recovered-{}", hexadecimal(&Sha256::digest(id.as_bytes())[..8]))
}

/// Whether Kubernetes takes it for a `PersistentVolume`.
fn is_object_name(name: &str) -> bool {
    name.len() <= NAME_LIMIT && is_lower_case_domain(name)
}

#[cfg(test)]
mod tests;
