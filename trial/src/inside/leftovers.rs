//! What the machine itself says, past the driver: logical volumes, device-mapper devices, the thin pool ([`pool`]), the room of
//! thick snapshots ([`reserve`]), mounts, files.

pub mod pool;
pub mod reserve;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use quarry::host::linux::Linux;
use quarry::host::processes::Processes;
use quarry::lvm::groups::Groups;
use quarry::lvm::tags::VolumeTags;
use quarry::lvm::tags::copy_source::CopySourceTags;
use quarry::lvm::tags::snapshot::SnapshotTags;

use crate::inside::kind::{EXTENT, POOL};

/// How long the node may take to wipe and remove what was deleted.
const REMOVAL_LIMIT: Duration = Duration::from_secs(90);
/// How long a state of transition may last before it counts.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// The same of a device that is suspended: less than what the node's own next try would take.
const SUSPENSION_LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// What a logical volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A volume or a snapshot.
    Wanted,
    /// It goes by itself: it is deleted, was made for a copy or for a group snapshot, or is what a command left that broke off.
    Going,
    /// The thin pool, or what lvm keeps for it.
    Pool,
    /// Not the driver's.
    Foreign,
}

/// The logical volumes of the group.
pub fn logical_volumes(group: &str) -> Result<BTreeMap<String, Role>> {
    let columns = "lv_name,lv_tags,segtype,origin";
    let output = run("lvm", &["lvs", "--all", "--noheadings", "--separator", ";", "-o", columns, group])?;
    let volumes = output.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(';').collect();
        let [name, tags, kind, origin] = fields[..] else { return None };
        let tags: Vec<String> = tags.split(',').map(str::to_owned).collect();
        let role = match VolumeTags::parse(&tags) {
            Some(tags) if tags.deleting.is_none() => Role::Wanted,
            Some(_) => Role::Going,
            None if name == POOL && kind == "thin-pool" || name.starts_with('[') => Role::Pool,
            None if CopySourceTags::parse(&tags).is_some() => Role::Going,
            None if SnapshotTags::parse_incomplete(&tags).is_some() => Role::Going,
            None if SnapshotTags::parse(&tags).is_some() && (kind == "thin" || !origin.is_empty()) => Role::Wanted,
            None if SnapshotTags::parse(&tags).is_some() => Role::Going,
            None => Role::Foreign,
        };
        Some((name.to_owned(), role))
    });
    Ok(volumes.collect())
}

/// Logical volumes that are neither in the list nor going.
pub async fn orphans(group: &str, listed: &[String]) -> Result<Vec<String>> {
    let begun = Instant::now();
    loop {
        let orphans = logical_volumes(group)?.into_iter().filter_map(|(name, role)| match role {
            Role::Foreign => Some(format!("logical volume {name} carries no tags of the driver")),
            Role::Wanted if !listed.contains(&name) => {
                Some(format!("logical volume {name} is neither listed nor being deleted"))
            }
            _ => None,
        });
        let orphans: Vec<String> = orphans.collect();
        // What a command left that broke off goes within a look of the node.
        if orphans.is_empty() || begun.elapsed() > SETTLE_LIMIT {
            return Ok(orphans);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until every logical volume but the pool is gone; then nothing must be in the pool but
/// pieces that power cuts left, all other extents be free, and
/// nothing else be mapped.
pub async fn emptied(group: &str, left_by_cuts: u64) -> Result<Vec<String>> {
    let begun = Instant::now();
    loop {
        let left: Vec<String> =
            logical_volumes(group)?.into_iter().filter(|(_, role)| *role != Role::Pool).map(|(name, _)| name).collect();
        if left.is_empty() {
            break;
        }
        if begun.elapsed() > REMOVAL_LIMIT {
            return Ok(vec![format!("{REMOVAL_LIMIT:?} after the last deletion there still is {left:?}")]);
        }
        tokio::time::sleep(PAUSE).await;
    }
    let output =
        run("lvm", &["lvs", "--all", "--noheadings", "--units", "b", "--nosuffix", "-o", "lv_name,lv_size", group])?;
    // The pool's own size is that of its data.
    let hidden = output.lines().map(str::split_whitespace).filter_map(|mut words| Some((words.next()?, words.next()?)));
    let hidden = hidden.filter(|(name, _)| name.starts_with('['));
    let pool: u64 = hidden.map(|(_, bytes)| bytes.parse::<u64>().unwrap_or_default()).sum::<u64>() / EXTENT;
    let mut found = pool::problems(group, left_by_cuts).await?;
    let output = run("lvm", &["vgs", "--noheadings", "-o", "vg_extent_count,vg_free_count", group])?;
    let counts: Vec<&str> = output.split_whitespace().collect();
    let counts: Vec<u64> = counts.iter().filter_map(|count| count.parse().ok()).collect();
    if counts.len() != 2 || counts[0] != counts[1] + pool {
        found.push(format!(
            "the group is empty, but of its extents (all, free) there are {counts:?}, the pool has {pool}"
        ));
    }
    let devices = run("dmsetup", &["ls"])?;
    let of_pool = format!("{group}-{}", POOL.replace('-', "--"));
    if devices.lines().any(|device| !device.starts_with(&of_pool) && !device.contains("No devices found")) {
        found.push(format!("the group is empty, but there are mapped devices: {devices}"));
    }
    Ok(found)
}

/// Device-mapper devices that stay suspended.
pub async fn suspended() -> Result<Vec<String>> {
    let fields = ["info", "-c", "--noheadings", "--separator", ";", "-o", "name,suspended"];
    let begun = Instant::now();
    loop {
        let output = run("dmsetup", &fields)?;
        let names: Vec<&str> = output.lines().filter_map(|line| line.trim().strip_suffix(";Suspended")).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        if begun.elapsed() > SUSPENSION_LIMIT {
            return Ok(names.iter().map(|name| format!("device {name} is suspended")).collect());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a file can be made in a file system within that time: not while it is frozen, or its device suspended.
pub async fn takes_writes(folder: &Path, limit: Duration) -> bool {
    let file = folder.join("probe");
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread that nobody waits for: it may never end.
    std::thread::spawn(move || tell.send(fs::write(&file, "").and_then(|()| fs::remove_file(&file)).is_ok()));
    tokio::time::timeout(limit, told).await.is_ok_and(|told| told.unwrap_or(false))
}

/// What `vgck` has to say about the group, and how the driver's own reading differs from lvm's.
pub async fn metadata(group: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let output = Command::new("lvm").args(["vgck", group]).output().context("cannot run vgck")?;
    if !output.status.success() || !output.stderr.is_empty() {
        found.push(format!("vgck: {} {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    let groups = Groups::new(Arc::new(Linux::new()), Arc::new(Processes::new()));
    let begun = Instant::now();
    let mut differences = groups.compare().await?;
    // Between the two readings the node may have changed the group, such as by growing a pool.
    while !differences.is_empty() && begun.elapsed() < SETTLE_LIMIT {
        tokio::time::sleep(PAUSE).await;
        differences = groups.compare().await?;
    }
    found.extend(differences.into_iter().map(|difference| format!("read otherwise than by lvm: {difference}")));
    Ok(found)
}

/// Mounts below a folder, and block device nodes shown in it.
pub fn mounts_below(folder: &Path) -> Result<Vec<String>> {
    let folder = fs::canonicalize(folder)?;
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4));
    let below = targets.filter(|target| Path::new(target) != folder && Path::new(target).starts_with(&folder));
    Ok(below.map(|target| format!("{target} is still mounted")).collect())
}

/// More files than a node that rests may have open.
pub fn open_files(program: &str, most: usize) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").context("cannot list the processes")? {
        let process = process?.path();
        if fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == program) {
            let files = fs::read_dir(process.join("fd")).map_or(0, Iterator::count);
            if files > most {
                found.push(format!("{program} has {files} files open"));
            }
        }
    }
    Ok(found)
}

/// What is left in a folder.
pub fn files_in(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    entries.map(|entry| Ok(format!("{} is left behind", entry?.path().display()))).collect()
}

/// Runs a program that must end well; its standard output.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
