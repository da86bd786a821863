//! What must hold after the power came back, by the journal.

mod listed;
mod uuids;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::inside::Place;
use crate::inside::kind::Kind;
use crate::inside::leftovers;
use crate::inside::power::caller::Caller;
use crate::inside::power::journal::Journal;
use crate::inside::power::ledger::{Call, Entry, Existence, Volume, member};
use crate::inside::power::records::{self, Record};
use crate::inside::power::room_watch::RoomWatch;

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

impl Options {
    /// By the log of the nodes, which lies beside the journal.
    fn left_by_cuts(&self) -> Result<u64> {
        leftovers::pool::left_by_cuts(&self.log.with_file_name("node.log"))
    }
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
    /// How often the room of a thick snapshot has.
    pub reserve_growths: u64,
}

impl Findings {
    fn add(&mut self, other: Self) {
        self.violations.extend(other.violations);
        self.volumes += other.volumes;
        self.records += other.records;
        self.retried += other.retried;
        self.growths += other.growths;
        self.reserve_growths += other.reserve_growths;
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
    (findings.growths, findings.reserve_growths) = (ledger.growths, ledger.reserve_growths);
    println!("{}", serde_json::to_string(&findings)?);
    caller.journal.write(&Entry::Reported)
}

async fn check(options: &Options, caller: &Caller, findings: &mut Findings) -> Result<()> {
    let group = &options.place.group;
    listed::look(group, caller, findings).await?;
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
    findings.violations.extend(uuids::shared(caller)?);
    if options.empty {
        take_all_away(caller).await?;
        findings.violations.extend(leftovers::emptied(group, options.left_by_cuts()?).await?);
        findings.violations.extend(leftovers::mounts_below(&options.place.kubelet)?);
        let targets = options.place.kubelet.join("target");
        if targets.try_exists()? {
            findings.violations.extend(leftovers::files_in(&targets)?);
        }
    }
    findings.violations.extend(leftovers::pool::problems(group, options.left_by_cuts()?).await?);
    findings.violations.extend(leftovers::reserve::problems(group).await?);
    findings.violations.extend(leftovers::suspended().await?);
    findings.violations.extend(leftovers::metadata(group).await?);
    let room = RoomWatch::new(group);
    room.look(&caller.journal).await?;
    if options.without_pool {
        // The next work makes one anew.
        leftovers::pool::remove(group)?;
        room.look(&caller.journal).await?;
    }
    Ok(())
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
        (Existence::Present, None) if !volume.members.is_empty() => {
            findings.violations.extend(wrong_members(caller, name, volume).await?);
            Ok(())
        }
        (Existence::Present, Some(of)) => restore(caller, name, volume, of, findings).await,
        // Those that are in use stay so: the next work begins with them.
        (Existence::Present, None) => read_back(caller, name, volume, findings).await,
        _ => Ok(()),
    }
}

/// A volume of the snapshot holds what the snapshot's volume held, and nothing that was written later.
async fn restore(caller: &Caller, name: &str, snapshot: &Volume, of: &str, findings: &mut Findings) -> Result<()> {
    let Some(kinds) = snapshot.kind.map(Kind::copies) else { bail!("nothing is known of its kind") };
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

/// A group that was answered holds the snapshots that it was answered with.
async fn wrong_members(caller: &Caller, name: &str, group: &Volume) -> Result<Option<String>> {
    let held = caller.group(group.id.as_deref().unwrap_or_default()).await?;
    let members = group.members.iter().filter_map(|of| caller.journal.volume(&member(name, of)).id);
    let (held, members): (BTreeSet<String>, BTreeSet<String>) = (held.into_iter().collect(), members.collect());
    Ok((held != members).then(|| format!("group {name} of the snapshots {members:?} now holds {held:?}")))
}

/// Thick volumes outlive their snapshots.
async fn take_all_away(caller: &Caller) -> Result<()> {
    let all = caller.journal.ledger().volumes;
    let (snapshots, volumes): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, volume)| volume.snapshot_of.is_some() || !volume.members.is_empty());
    for (name, _) in snapshots.into_iter().filter(|(_, volume)| volume.group.is_none()) {
        caller.insist(&name, &Call::Delete).await?;
    }
    for (name, _) in volumes {
        take_away(caller, &name).await?;
    }
    Ok(())
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
