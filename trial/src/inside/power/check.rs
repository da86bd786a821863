//! What must hold after the power came back, by the journal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use quarry::lvm::names::snapshot_name;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::inside::Place;
use crate::inside::kind::Kind;
use crate::inside::leftovers;
use crate::inside::power::caller::Caller;
use crate::inside::power::journal::Journal;
use crate::inside::power::ledger::{Call, Entry, Existence, Volume};
use crate::inside::power::pool_watch::PoolWatch;
use crate::inside::power::records::{self, Record};

/// What the check is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// The journal
    #[arg(long)]
    log: PathBuf,
    /// The machine has not gone down since the last entry, only the node has
    #[arg(long)]
    same_boot: bool,
    /// Delete everything at the end, and see that nothing is left
    #[arg(long)]
    empty: bool,
    /// And take away the thin pool then
    #[arg(long, requires = "empty")]
    without_pool: bool,
}

/// How the names of volumes end that only a check makes, of snapshots.
const OF_CHECK: &str = "-check";

/// How long a write may take; more than what was held back may stay so.
const WRITE_LIMIT: Duration = Duration::from_secs(15);

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
    /// How often the thin pool has grown since the last findings.
    pub growths: u64,
}

impl Findings {
    fn add(&mut self, other: Self) {
        self.violations.extend(other.violations);
        self.volumes += other.volumes;
        self.records += other.records;
        self.retried += other.retried;
        self.growths += other.growths;
    }
}

/// Checks and prints the findings as one line of JSON.
pub async fn run(options: &Options) -> Result<()> {
    let journal = Arc::new(Journal::open(&options.log)?);
    if !options.same_boot {
        journal.write(&Entry::Boot)?;
    }
    let client = Client::connect(&options.place.socket).await?;
    let caller = Caller::new(client, journal, options.place.kubelet.clone());
    let mut findings = Findings::default();
    if let Err(error) = check(options, &caller, &mut findings).await {
        findings.violations.push(format!("{error:#}"));
    }
    let ledger = caller.journal.ledger();
    findings.violations.extend(ledger.problems);
    findings.growths = ledger.growths;
    println!("{}", serde_json::to_string(&findings)?);
    caller.journal.write(&Entry::Reported)
}

async fn check(options: &Options, caller: &Caller, findings: &mut Findings) -> Result<()> {
    let group = &options.place.group;
    look(group, caller, findings).await?;
    // What an earlier check has made and was cut off.
    for (name, volume) in of_checks(&caller.journal) {
        if let Some((call, _)) = &volume.pending {
            caller.insist(&name, call).await?;
        }
        take_away(caller, &name).await?;
    }
    // A snapshot or a copy that is being made holds up its source, so one after the other.
    for (name, volume) in caller.journal.ledger().volumes {
        findings.retried += u64::from(volume.pending.is_some());
        if let Err(error) = end_pending(caller, &name, &volume).await {
            findings.violations.push(format!("{name}: {error:#}"));
        }
    }
    let mut checks = JoinSet::new();
    let is_of_check = |name: &str| name.ends_with(OF_CHECK);
    for (name, volume) in caller.journal.ledger().volumes.into_iter().filter(|(name, _)| !is_of_check(name)) {
        let caller = caller.clone();
        checks.spawn(async move {
            let mut findings = Findings::default();
            if let Err(error) = converge(&caller, &name, &volume, &mut findings).await {
                findings.violations.push(format!("{name}: {error:#}"));
            }
            findings
        });
    }
    while let Some(found) = checks.join_next().await {
        findings.add(found?);
    }
    if options.empty {
        // Thick volumes outlive their snapshots.
        let (snapshots, volumes): (Vec<_>, Vec<_>) =
            caller.journal.ledger().volumes.into_iter().partition(|(_, volume)| volume.snapshot_of.is_some());
        for (name, _) in snapshots {
            caller.insist(&name, &Call::Delete).await?;
        }
        for (name, _) in volumes {
            take_away(caller, &name).await?;
        }
        findings.violations.extend(leftovers::emptied(group).await?);
        findings.violations.extend(leftovers::mounts_below(&options.place.kubelet)?);
        let targets = options.place.kubelet.join("target");
        if targets.try_exists()? {
            findings.violations.extend(leftovers::files_in(&targets)?);
        }
    }
    findings.violations.extend(leftovers::pool::problems(group).await?);
    findings.violations.extend(leftovers::suspended().await?);
    findings.violations.extend(leftovers::metadata(group).await?);
    let pool = PoolWatch::new(group);
    pool.look(&caller.journal).await?;
    if options.without_pool {
        // The next work makes one anew.
        leftovers::pool::remove(group)?;
        pool.look(&caller.journal).await?;
    }
    Ok(())
}

/// Before anything is asked for: what is listed, and what the machine says.
async fn look(group: &str, caller: &Caller, findings: &mut Findings) -> Result<()> {
    let violations = &mut findings.violations;
    violations.extend(leftovers::suspended().await?);
    violations.extend(leftovers::metadata(group).await?);
    let (mut listed, mut snapshots) = listed(caller).await?;
    if !leftovers::orphans(group, &names(&listed, &snapshots)).await?.is_empty() {
        // A snapshot that was only noted when the power ended is made by lvm's next command on the pool, after it was looked for.
        (listed, snapshots) = self::listed(caller).await?;
        violations.extend(leftovers::orphans(group, &names(&listed, &snapshots)).await?);
    }
    let (known_snapshots, mut volumes): (BTreeMap<_, _>, BTreeMap<_, _>) =
        caller.journal.ledger().volumes.into_iter().partition(|(_, volume)| volume.snapshot_of.is_some());
    violations.extend(wrong_snapshots(&snapshots, &known_snapshots));
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

type Listed = BTreeMap<String, u64>;

/// The volumes and the snapshots, with their bytes.
async fn listed(caller: &Caller) -> Result<(Listed, Listed)> {
    Ok((caller.list().await?.into_iter().collect(), caller.list_snapshots().await?.into_iter().collect()))
}

/// The logical volumes' names.
fn names(volumes: &Listed, snapshots: &Listed) -> Vec<String> {
    volumes.keys().chain(snapshots.keys()).filter_map(|id| Some(id.split_once('/')?.1.to_owned())).collect()
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
    // It is as large as its source first.
    let is_copied = matches!(volume.pending, Some((Call::Copy { .. }, _)));
    let is_right = match volume.existence {
        Existence::Present => bytes == volume.bytes || grows && bytes == volume.asked,
        // Its creation or deletion was cut off.
        _ => {
            bytes == volume.asked
                || is_copied && bytes <= volume.asked
                || is_pending(&Call::Delete) && bytes == volume.bytes
        }
    };
    (!is_right).then(|| format!("{id} is listed with {bytes} bytes; known is {volume:?}"))
}

/// Brings what was cut off to its end.
async fn end_pending(caller: &Caller, name: &str, volume: &Volume) -> Result<()> {
    if let Some((call, _)) = &volume.pending {
        if matches!(call, Call::Publish | Call::GrowOnNode) {
            caller.insist(name, &Call::Stage).await?;
        }
        if *call == Call::GrowOnNode {
            caller.insist(name, &Call::Publish).await?;
        }
        caller.insist(name, call).await?;
    }
    Ok(())
}

/// Reads back what was written.
async fn converge(caller: &Caller, name: &str, volume: &Volume, findings: &mut Findings) -> Result<()> {
    match (volume.existence, &volume.snapshot_of) {
        (Existence::Present, Some(of)) => restore(caller, name, volume, of, findings).await,
        // Those that are in use stay so: the next work begins with them.
        (Existence::Present, None) => read_back(caller, name, volume, findings).await,
        _ => Ok(()),
    }
}

/// A volume of the snapshot holds what the snapshot's volume held, and nothing that was written later.
async fn restore(caller: &Caller, name: &str, snapshot: &Volume, of: &str, findings: &mut Findings) -> Result<()> {
    let Some(kinds) = snapshot.kind.and_then(Kind::copies) else { bail!("no snapshot is made of such volumes") };
    let kind = kinds[usize::from(fastrand::bool())];
    let copy = format!("{name}{OF_CHECK}");
    let call = Call::Copy { from: name.to_owned(), kind, bytes: snapshot.bytes };
    caller.insist(&copy, &call).await.context("a volume of the snapshot")?;
    read_back(caller, &copy, &caller.journal.volume(&copy), findings).await?;
    let is_later = |record: &Record| !snapshot.records.contains(record);
    let later: Vec<Record> = caller.journal.volume(of).records.into_iter().filter(is_later).collect();
    let target = caller.target(&copy);
    let late = tokio::task::block_in_place(|| records::present(kind, &target, &later).map(|found| found.len()))?;
    if late > 0 {
        findings.violations.push(format!("{name}: {late} records are in it that were written after it was made"));
    }
    take_away(caller, &copy).await
}

async fn take_away(caller: &Caller, name: &str) -> Result<()> {
    for call in [Call::Unpublish, Call::Unstage, Call::Delete] {
        caller.insist(name, &call).await?;
    }
    Ok(())
}

/// Volumes that only a check has made.
fn of_checks(journal: &Journal) -> Vec<(String, Volume)> {
    journal.ledger().volumes.into_iter().filter(|(name, _)| name.ends_with(OF_CHECK)).collect()
}

fn wrong_snapshots(listed: &BTreeMap<String, u64>, known: &BTreeMap<String, Volume>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, snapshot) in known.iter().filter(|(_, snapshot)| snapshot.existence == Existence::Present) {
        let bytes = snapshot.id.as_ref().and_then(|id| listed.get(id));
        if bytes != Some(&snapshot.bytes) {
            let expected = snapshot.bytes;
            wrong.push(format!("snapshot {name} with {expected} bytes was answered and is listed with {bytes:?}"));
        }
    }
    let ids: Vec<String> =
        known.keys().map(|name| format!("{}/{}", crate::site::NODE_NAME, snapshot_name(name))).collect();
    let unknown = listed.keys().filter(|id| !ids.contains(id));
    wrong.extend(unknown.map(|id| format!("snapshot {id} is listed, but nobody asked for it, or it was deleted")));
    wrong
}

async fn read_back(caller: &Caller, name: &str, volume: &Volume, findings: &mut Findings) -> Result<()> {
    let Some(kind) = volume.kind else { bail!("nothing is known of its kind") };
    for call in [Call::Stage, Call::Publish] {
        caller.insist(name, &call).await?;
    }
    if !kind.is_block() && !leftovers::takes_writes(&caller.target(name), WRITE_LIMIT).await {
        findings.violations.push(format!("{name} ({kind:?}): nothing can be written to it, as if it were frozen"));
        return Ok(());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(bytes: u64) -> Volume {
        Volume {
            existence: Existence::Present,
            id: Some(format!("{}/{}", crate::site::NODE_NAME, snapshot_name("s"))),
            bytes,
            snapshot_of: Some(String::from("v")),
            ..Volume::default()
        }
    }

    fn told(listed: &[(String, u64)], known: Volume) -> usize {
        wrong_snapshots(&listed.iter().cloned().collect(), &[(String::from("s"), known)].into()).len()
    }

    #[test]
    fn an_answered_snapshot_that_is_missing_or_of_another_size_is_told_and_so_is_an_unknown_one() {
        let known = snapshot(8);
        let there = (known.id.clone().unwrap(), 8);
        assert_eq!(told(std::slice::from_ref(&there), known.clone()), 0);
        assert_eq!(told(&[], known.clone()), 1);
        assert_eq!(told(&[(there.0.clone(), 4)], known.clone()), 1);
        assert_eq!(told(&[there, (String::from("n/other"), 8)], known), 1);
        assert_eq!(told(&[], Volume { existence: Existence::Unknown, ..snapshot(8) }), 0);
    }

    #[test]
    fn a_volume_of_another_size_and_one_whose_deletion_was_answered_are_told() {
        let volume = Volume { existence: Existence::Present, bytes: 8, asked: 8, ..Volume::default() };
        assert_eq!(wrongly_listed("n/v", 8, &volume), None);
        assert!(wrongly_listed("n/v", 4, &volume).is_some());
        assert!(wrongly_listed("n/v", 8, &Volume { existence: Existence::Absent, ..volume }).is_some());
    }
}
