//! Many claims at once on one node.

use std::time::Duration;

use anyhow::{Context, Result};

use super::volumes::{between, chosen_claim, first};
use crate::kubernetes::audit::{Entry, entries};
use crate::kubernetes::{Installed, Namespace};

const LIMIT: Duration = Duration::from_mins(5);

/// Makes so many claims at once; seconds from the first one's creation to the last one's Bound.
pub(super) fn measure(installed: &Installed, space: &Namespace<'_>, claims: usize) -> Result<f64> {
    let names: Vec<String> = (0..claims).map(|number| format!("burst-{number}")).collect();
    space.apply(&names.iter().map(|name| chosen_claim(name)).collect::<Vec<_>>())?;
    space.wait_all("pvc", "jsonpath={.status.phase}=Bound", LIMIT)?;
    let requests = entries(&installed.cluster)?;
    let made = names.iter().filter_map(|name| first(&requests, "persistentvolumeclaims", name)).min();
    let is_bound = |entry: &&Entry| {
        entry.succeeded() && entry.resource == "persistentvolumeclaims/status" && names.contains(&entry.name)
    };
    let bound = requests.iter().filter(is_bound).map(|entry| entry.answered).max();
    Ok(between(made.context("no claim was made")?, bound.context("no claim was bound")?).as_secs_f64())
}
