//! What must hold after the power came back, by the journal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::inside::Place;
use crate::inside::leftovers;
use crate::inside::power::caller::Caller;
use crate::inside::power::journal::Journal;
use crate::inside::power::ledger::{Call, Entry, Existence, Volume};
use crate::inside::power::records;

/// What the check is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// The journal
    #[arg(long)]
    log: PathBuf,
    /// Delete everything at the end, and see that nothing is left
    #[arg(long)]
    empty: bool,
}

/// What was checked and what was wrong.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    pub violations: Vec<String>,
    /// Volumes that were read.
    pub volumes: u64,
    /// Records that were read.
    pub records: u64,
    /// Calls that were cut off and tried again.
    pub retried: u64,
}

impl Findings {
    fn add(&mut self, other: Self) {
        self.violations.extend(other.violations);
        self.volumes += other.volumes;
        self.records += other.records;
        self.retried += other.retried;
    }
}

/// Checks and prints the findings as one line of JSON.
pub async fn run(options: &Options) -> Result<()> {
    let journal = Arc::new(Journal::open(&options.log)?);
    journal.write(&Entry::Boot)?;
    let client = Client::connect(&options.place.socket).await?;
    let caller = Caller::new(client, journal, options.place.kubelet.clone());
    let mut findings = Findings::default();
    if let Err(error) = check(options, &caller, &mut findings).await {
        findings.violations.push(format!("{error:#}"));
    }
    findings.violations.extend(caller.journal.ledger().problems);
    println!("{}", serde_json::to_string(&findings)?);
    caller.journal.write(&Entry::Reported)
}

async fn check(options: &Options, caller: &Caller, findings: &mut Findings) -> Result<()> {
    let group = &options.place.group;
    look(group, caller, findings).await?;
    let mut checks = JoinSet::new();
    for (name, volume) in caller.journal.ledger().volumes {
        let (caller, empty) = (caller.clone(), options.empty);
        checks.spawn(async move {
            let mut findings = Findings::default();
            if let Err(error) = converge(&caller, &name, &volume, empty, &mut findings).await {
                findings.violations.push(format!("{name}: {error:#}"));
            }
            findings
        });
    }
    while let Some(found) = checks.join_next().await {
        findings.add(found?);
    }
    if options.empty {
        findings.violations.extend(leftovers::emptied(group).await?);
        findings.violations.extend(leftovers::mounts_below(&options.place.kubelet)?);
        let targets = options.place.kubelet.join("target");
        if targets.try_exists()? {
            findings.violations.extend(leftovers::files_in(&targets)?);
        }
    }
    findings.violations.extend(leftovers::suspended().await?);
    findings.violations.extend(leftovers::metadata(group).await?);
    Ok(())
}

/// Before anything is asked for: what is listed, and what the machine says.
async fn look(group: &str, caller: &Caller, findings: &mut Findings) -> Result<()> {
    let violations = &mut findings.violations;
    violations.extend(leftovers::suspended().await?);
    violations.extend(leftovers::metadata(group).await?);
    let listed: BTreeMap<String, u64> = caller.list().await?.into_iter().collect();
    let names: Vec<String> = listed.keys().filter_map(|id| Some(id.split_once('/')?.1.to_owned())).collect();
    violations.extend(leftovers::orphans(group, &names)?);
    let mut volumes = caller.journal.ledger().volumes;
    for (id, bytes) in &listed {
        let name = id.split_once('/').map_or(id.as_str(), |(_, name)| name);
        match volumes.remove(name) {
            None => violations.push(format!("{id} is listed, but nobody asked for it")),
            Some(volume) => violations.extend(wrongly_listed(id, *bytes, &volume)),
        }
    }
    let lost = volumes.iter().filter(|(_, volume)| volume.existence == Existence::Present);
    violations.extend(lost.map(|(name, volume)| {
        format!("{name} with {} bytes was answered, is not deleted, and is not listed", volume.bytes)
    }));
    Ok(())
}

fn wrongly_listed(id: &str, bytes: u64, volume: &Volume) -> Option<String> {
    if volume.existence == Existence::Absent {
        return Some(format!("{id} is listed, but its deletion was answered"));
    }
    if volume.id.as_deref().is_some_and(|known| known != id) {
        return Some(format!("{:?} is listed as {id}", volume.id));
    }
    let is_pending = |call: &Call| volume.pending.as_ref().is_some_and(|(pending, _)| pending == call);
    let grows = matches!(volume.pending, Some((Call::Grow { .. }, _)));
    let is_right = match volume.existence {
        Existence::Present => bytes == volume.bytes || grows && bytes == volume.asked,
        // Its creation or deletion was cut off.
        _ => bytes == volume.asked || is_pending(&Call::Delete) && bytes == volume.bytes,
    };
    (!is_right).then(|| format!("{id} is listed with {bytes} bytes; known is {volume:?}"))
}

/// Brings what was cut off to its end, and reads back what was written.
async fn converge(caller: &Caller, name: &str, volume: &Volume, empty: bool, findings: &mut Findings) -> Result<()> {
    let pending = volume.pending.as_ref().map(|(call, _)| call.clone());
    if let Some(call) = &pending {
        findings.retried += 1;
        if matches!(call, Call::Publish | Call::GrowOnNode) {
            caller.insist(name, &Call::Stage).await?;
        }
        if *call == Call::GrowOnNode {
            caller.insist(name, &Call::Publish).await?;
        }
        caller.insist(name, call).await?;
    }
    let now = caller.journal.volume(name);
    if now.existence == Existence::Present {
        read_back(caller, name, &now, findings).await?;
    }
    if !empty {
        // Those that are in use stay so: the next work begins with them.
        return Ok(());
    }
    for call in [Call::Unpublish, Call::Unstage, Call::Delete] {
        caller.insist(name, &call).await?;
    }
    Ok(())
}

async fn read_back(caller: &Caller, name: &str, volume: &Volume, findings: &mut Findings) -> Result<()> {
    let Some(kind) = volume.kind else { bail!("nothing is known of its kind") };
    for call in [Call::Stage, Call::Publish] {
        caller.insist(name, &call).await?;
    }
    let (target, records) = (caller.target(name), volume.records.clone());
    let wrong = tokio::task::spawn_blocking(move || records::wrong(kind, &target, &records)).await??;
    findings.violations.extend(wrong.into_iter().map(|wrong| format!("{name} ({kind:?}): {wrong}")));
    findings.volumes += 1;
    findings.records += volume.records.len() as u64;
    if !kind.is_block() {
        caller.insist(name, &Call::GrowOnNode).await?;
    }
    Ok(())
}
