//! What is listed after the power came back, before anything is asked for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use quarry::lvm::names::{member_name, snapshot_name};

use super::Findings;
use crate::inside::leftovers;
use crate::inside::power::caller::{Caller, node_id};
use crate::inside::power::ledger::{Call, Existence, Volume, member};

/// How long a group of which only a part is there may take until all of it is.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);

/// Before anything is asked for: what is listed, and what the machine says.
pub(super) async fn look(group: &str, caller: &Caller, findings: &mut Findings) -> Result<()> {
    let violations = &mut findings.violations;
    violations.extend(leftovers::suspended().await?);
    violations.extend(leftovers::metadata(group).await?);
    let (mut listed, mut snapshots) = listed(caller).await?;
    if !leftovers::orphans(group, &names(&listed, &snapshots)).await?.is_empty() {
        // A snapshot that was only noted when the power ended is made by lvm's next command on the pool, after it was looked for.
        (listed, snapshots) = self::listed(caller).await?;
        violations.extend(leftovers::orphans(group, &names(&listed, &snapshots)).await?);
    }
    let known = caller.journal.ledger().volumes;
    let begun = Instant::now();
    while begun.elapsed() < SETTLE_LIMIT && !torn_groups(&snapshots, &known).is_empty() {
        tokio::time::sleep(PAUSE).await;
        snapshots = self::listed(caller).await?.1;
    }
    violations.extend(torn_groups(&snapshots, &known));
    let (known_snapshots, known): (BTreeMap<_, _>, BTreeMap<_, _>) =
        known.into_iter().partition(|(_, volume)| volume.snapshot_of.is_some());
    let mut volumes: BTreeMap<_, _> = known.into_iter().filter(|(_, volume)| volume.members.is_empty()).collect();
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

fn wrong_snapshots(listed: &BTreeMap<String, u64>, known: &BTreeMap<String, Volume>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, snapshot) in known.iter().filter(|(_, snapshot)| snapshot.existence == Existence::Present) {
        let bytes = snapshot.id.as_ref().and_then(|id| listed.get(id));
        if bytes != Some(&snapshot.bytes) {
            let expected = snapshot.bytes;
            wrong.push(format!("snapshot {name} with {expected} bytes was answered and is listed with {bytes:?}"));
        }
    }
    let ids: Vec<String> = known.iter().map(|(name, snapshot)| snapshot_id(name, snapshot)).collect();
    let unknown = listed.keys().filter(|id| !ids.contains(id));
    wrong.extend(unknown.map(|id| format!("snapshot {id} is listed, but nobody asked for it, or it was deleted")));
    wrong
}

/// The id of what is known as a snapshot, also of one whose making was not answered.
fn snapshot_id(name: &str, snapshot: &Volume) -> String {
    node_id(&match (&snapshot.group, &snapshot.snapshot_of) {
        (Some(group), Some(of)) => member_name(group, of),
        _ => snapshot_name(name),
    })
}

/// Group snapshots whose making was not answered, and of which some is listed and some is not. Of one that is being deleted
/// this may be so until the call is repeated.
fn torn_groups(listed: &Listed, known: &BTreeMap<String, Volume>) -> Vec<String> {
    let is_being_made = |group: &Volume| matches!(group.pending, Some((Call::SnapshotGroup { .. }, _)));
    let torn = known.iter().filter(|(_, group)| is_being_made(group)).filter_map(|(name, group)| {
        let is_listed = |of: &&String| {
            let snapshot = known.get(&member(name, of));
            snapshot.is_some_and(|snapshot| listed.contains_key(&snapshot_id(name, snapshot)))
        };
        let (there, missing): (Vec<&String>, Vec<&String>) = group.members.iter().partition(is_listed);
        let is_torn = !there.is_empty() && !missing.is_empty();
        is_torn.then(|| format!("of group {name} the snapshots of {there:?} are there, those of {missing:?} are not"))
    });
    torn.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(bytes: u64) -> Volume {
        Volume {
            existence: Existence::Present,
            id: Some(node_id(&snapshot_name("s"))),
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
    fn a_group_of_which_only_a_part_is_listed_is_told_while_it_is_being_made() {
        let of = || vec![String::from("a"), String::from("b")];
        let group = |call| Volume { members: of(), pending: Some((call, Existence::Absent)), ..Volume::default() };
        let member_of = |of: &str| {
            let snapshot =
                Volume { group: Some(String::from("g")), snapshot_of: Some(of.to_owned()), ..Volume::default() };
            (member("g", of), snapshot)
        };
        let told = |call, listed: &[&str]| {
            let known = [(String::from("g"), group(call)), member_of("a"), member_of("b")].into();
            let listed = listed.iter().map(|of| (node_id(&member_name("g", of)), 8)).collect();
            torn_groups(&listed, &known).len()
        };
        let making = || Call::SnapshotGroup { of: of() };
        assert_eq!([told(making(), &[]), told(making(), &["a", "b"]), told(making(), &["b"])], [0, 0, 1]);
        assert_eq!(told(Call::Delete, &["b"]), 0);
    }

    #[test]
    fn a_volume_of_another_size_and_one_whose_deletion_was_answered_are_told() {
        let volume = Volume { existence: Existence::Present, bytes: 8, asked: 8, ..Volume::default() };
        assert_eq!(wrongly_listed("n/v", 8, &volume), None);
        assert!(wrongly_listed("n/v", 4, &volume).is_some());
        assert!(wrongly_listed("n/v", 8, &Volume { existence: Existence::Absent, ..volume }).is_some());
    }
}
