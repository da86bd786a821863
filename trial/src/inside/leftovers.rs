//! What the machine itself says, past the driver: logical volumes, device-mapper devices, mounts, files.

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

/// How long the node may take to wipe and remove what was deleted.
const REMOVAL_LIMIT: Duration = Duration::from_mins(1);
/// How long a state of transition may last before it counts.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// The logical volumes of the group with what their tags say; `None` for one that is not the driver's.
pub fn logical_volumes(group: &str) -> Result<BTreeMap<String, Option<VolumeTags>>> {
    let output = run("lvm", &["lvs", "--all", "--noheadings", "--separator", ";", "-o", "lv_name,lv_tags", group])?;
    let volumes = output.lines().filter_map(|line| line.trim().split_once(';')).map(|(name, tags)| {
        let tags: Vec<String> = tags.split(',').map(str::to_owned).collect();
        (name.to_owned(), VolumeTags::parse(&tags))
    });
    Ok(volumes.collect())
}

/// Logical volumes that are neither in the list nor being deleted.
pub fn orphans(group: &str, listed: &[String]) -> Result<Vec<String>> {
    let orphans = logical_volumes(group)?.into_iter().filter_map(|(name, tags)| match tags {
        None => Some(format!("logical volume {name} carries no tags of the driver")),
        Some(tags) if tags.deleting.is_none() && !listed.contains(&name) => {
            Some(format!("logical volume {name} is neither listed nor being deleted"))
        }
        Some(_) => None,
    });
    Ok(orphans.collect())
}

/// Waits until every logical volume is gone; then all extents must be free and nothing mapped.
pub async fn emptied(group: &str) -> Result<Vec<String>> {
    let begun = Instant::now();
    loop {
        let left = logical_volumes(group)?;
        if left.is_empty() {
            break;
        }
        if begun.elapsed() > REMOVAL_LIMIT {
            return Ok(vec![format!("a minute after the last deletion there still is {:?}", left.keys())]);
        }
        tokio::time::sleep(PAUSE).await;
    }
    let mut found = Vec::new();
    let output = run("lvm", &["vgs", "--noheadings", "-o", "vg_extent_count,vg_free_count", group])?;
    let counts: Vec<&str> = output.split_whitespace().collect();
    if counts.len() != 2 || counts[0] != counts[1] {
        found.push(format!("the group is empty, but of its extents (all, free) there are {counts:?}"));
    }
    let devices = run("dmsetup", &["ls"])?;
    if !devices.contains("No devices found") {
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
        if begun.elapsed() > SETTLE_LIMIT {
            return Ok(names.iter().map(|name| format!("device {name} is suspended")).collect());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What `vgck` has to say about the group, and how the driver's own reading differs from lvm's.
pub async fn metadata(group: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let output = Command::new("lvm").args(["vgck", group]).output().context("cannot run vgck")?;
    if !output.status.success() || !output.stderr.is_empty() {
        found.push(format!("vgck: {} {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    let groups = Groups::new(Arc::new(Linux::new()), Arc::new(Processes::new()));
    let differences = groups.compare().await?;
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
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
