//! One claim after the other, in turn with a bare `lvcreate`.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use quarry_lab::Command;
use serde_json::{Value, json};

use super::WORKER;
use crate::bench::samples::Samples;
use crate::kubernetes::audit::{Entry, entries};
use crate::kubernetes::manifests::claim;
use crate::kubernetes::{GROUP, Installed, Namespace};

const SIZE: &str = "64Mi";
const LIMIT: Duration = Duration::from_mins(1);

/// What was measured.
#[derive(Default)]
pub(super) struct Times {
    /// From the claim's creation to Bound.
    pub(super) to_bound: Samples,
    /// From the claim's deletion until its volume is gone from the API.
    pub(super) delete: Samples,
    /// A bare `lvcreate` of the same size, by the guest's clock.
    pub(super) lvcreate: Samples,
}

/// A claim that need not wait for a pod: the node stands in it, as the scheduler would write it.
pub(super) fn chosen_claim(name: &str) -> Value {
    let mut claim = claim(name, "quarry", SIZE);
    claim["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": WORKER});
    claim
}

/// Makes and deletes so many claims.
pub(super) fn measure(installed: &Installed, space: &Namespace<'_>, claims: usize) -> Result<Times> {
    let mut times = Times::default();
    let worker = installed.worker(WORKER)?;
    let names: Vec<String> = (0..claims).map(|number| format!("single-{number}")).collect();
    let mut volumes = Vec::new();
    for name in &names {
        let bare = Command::new("lvcreate").args(["--size", "64M", "--name", name, GROUP]);
        times.lvcreate.push(Duration::from_secs_f64(worker.run(&bare)?.checked()?.seconds));
        installed.on(WORKER, &format!("lvremove --yes {GROUP}/{name}"))?;

        space.apply(&[chosen_claim(name)])?;
        let volume = space.bound(name)?;
        space.delete(&[&format!("pvc/{name}")])?;
        let gone = || Ok(installed.on(WORKER, "lvs --noheadings --options lv_name")?.is_empty());
        installed.wait("the volume is wiped and removed", LIMIT, gone)?;
        volumes.push(volume);
    }
    let requests = entries(&installed.cluster)?;
    for (name, volume) in names.iter().zip(&volumes) {
        let of = |verbs: &[&str], resource: &str, name: &str| {
            let is = |entry: &&Entry| {
                entry.succeeded()
                    && entry.resource == resource
                    && entry.name == name
                    && verbs.contains(&entry.verb.as_str())
            };
            let found: Vec<&Entry> = requests.iter().filter(is).collect();
            found.last().copied().cloned().with_context(|| format!("nobody did {verbs:?} {resource} {name}"))
        };
        let made = first(&requests, "persistentvolumeclaims", name).context("nobody made the claim")?;
        let bound = of(&["update", "patch"], "persistentvolumeclaims/status", name)?;
        times.to_bound.push(between(made, bound.answered));
        let deleted = of(&["delete"], "persistentvolumeclaims", name)?;
        // Its finalizers go one by one after the deletion was asked for; it is gone with the last.
        let gone = of(&["update", "patch", "delete"], "persistentvolumes", volume)?;
        times.delete.push(between(deleted.received, gone.answered));
    }
    Ok(times)
}

/// When the first successful request about an object came in.
pub(super) fn first(requests: &[Entry], resource: &str, name: &str) -> Option<SystemTime> {
    let about =
        |entry: &&Entry| entry.is_write() && entry.succeeded() && entry.resource == resource && entry.name == name;
    requests.iter().find(about).map(|entry| entry.received)
}

pub(super) fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}
