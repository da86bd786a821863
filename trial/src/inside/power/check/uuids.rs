//! A copy of a file system that needs one has a UUID of its own, as blkid reads it from the device, whatever cut its making off.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::inside::leftovers::run;
use crate::inside::power::caller::Caller;

/// Volumes in use that have the same UUID.
pub(super) fn shared(caller: &Caller) -> Result<Vec<String>> {
    let mut uuids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let volumes = caller.journal.ledger().volumes;
    let large = volumes.into_iter().filter(|(_, volume)| volume.kind.is_some_and(crate::inside::kind::Kind::is_large));
    for (name, _) in large.filter(|(_, volume)| volume.staged) {
        let staging = caller.staging(&name);
        let staging = staging.to_str().context("not UTF-8")?;
        let device = run("findmnt", &["--noheadings", "--output", "SOURCE", staging])?;
        let uuid = run("blkid", &["--probe", "--output", "value", "--match-tag", "UUID", &device])?;
        ensure!(!uuid.is_empty(), "blkid finds no UUID on {device}");
        uuids.entry(uuid).or_default().push(name);
    }
    let shared = uuids.into_iter().filter(|(_, names)| names.len() > 1);
    Ok(shared.map(|(uuid, names)| format!("{} have the same UUID {uuid}", names.join(" and "))).collect())
}
