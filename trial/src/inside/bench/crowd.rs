//! Hundreds of volumes and thousands of snapshots in little time: one of each is made by the node, the others are written into the
//! group's metadata after their example (`vgcfgrestore`), and made in the pool by messages to it. Made one by one they would
//! take most of an hour, since each lvm command reads and writes the text of all that are there.

use std::fs;

use anyhow::{Context, Result, ensure};
use quarry::host::kernel::Kernel as _;
use quarry::host::linux::Linux;
use quarry::lvm::metadata::describe;
use quarry::lvm::model::VolumeGroup;

use super::calls::Calls;
use super::machine::untimed;
use crate::bench::GROUP;

const BACKUP: &str = "/run/bench/crowd.vg";
/// What the examples are called.
const VOLUME: &str = "crowd-volume-00000";
const SNAPSHOT: &str = "crowd-snapshot-00000";

/// Makes volumes and snapshots until there are so many.
pub(super) async fn gather(calls: &Calls, volumes: usize, snapshots: usize) -> Result<()> {
    let volume_id = calls.create(VOLUME).await?;
    let snapshot_id = calls.snapshot(SNAPSHOT, &volume_id).await?;
    let volumes = volumes.checked_sub(calls.list(0).await?).context("there are more volumes already")?;
    let snapshots = snapshots.checked_sub(calls.list_snapshots().await?).context("there are more snapshots already")?;
    untimed(&["vgcfgbackup", "-f", BACKUP, GROUP])?;
    let text = fs::read_to_string(BACKUP)?;
    let group = describe(text.as_bytes())?.group;
    let examples = [Example::of(&text, &group, &volume_id)?, Example::of(&text, &group, &snapshot_id)?];
    let pool = group.pool_of(group.logical_volume(&examples[0].name).context("no example")?).context("no pool")?;
    let pool = pool.pool_mapper_uuid(&group);
    let free = group.logical_volumes.iter().filter_map(|logical| Some(logical.thin.as_ref()?.device_id + 1)).max();
    let (free, kernel, mut made) = (free.unwrap_or_default(), Linux::new(), String::new());

    let [volume, snapshot] = &examples;
    for number in 1..=volumes {
        let device_id = free + number as u64;
        kernel.message(&pool, &format!("create_thin {device_id}")).await?;
        made += &volume.copy(device_id, &[(VOLUME, numbered(VOLUME, number))]);
    }
    for number in 1..=snapshots {
        let (device_id, of) = (free + (volumes + number) as u64, 1 + number % volumes);
        kernel.message(&pool, &format!("create_snap {device_id} {}", free + of as u64)).await?;
        let names = [(VOLUME, numbered(VOLUME, of)), (SNAPSHOT, numbered(SNAPSHOT, number))];
        made += &snapshot.copy(device_id, &names);
    }
    fs::write(BACKUP, text.replacen(&volume.text, &(made + &volume.text), 1))?;
    untimed(&["vgcfgrestore", "--yes", "--force", "-f", BACKUP, GROUP])
}

/// A logical volume's part of the metadata.
struct Example {
    name: String,
    uuid: String,
    device_id: u64,
    text: String,
}

impl Example {
    fn of(text: &str, group: &VolumeGroup, id: &str) -> Result<Self> {
        let name = id.split_once('/').context("an id without a slash")?.1;
        let logical = group.logical_volume(name).with_context(|| format!("{name} is not in the metadata"))?;
        let device_id = logical.thin.as_ref().context("not thin")?.device_id;
        let start = text.find(&format!("\t\t{name} {{\n")).context("no section")?;
        let end = start + text[start..].find("\n\t\t}\n").context("a section without an end")? + "\n\t\t}\n".len();
        let (name, uuid, text) = (name.to_owned(), logical.uuid.clone(), text[start..end].to_owned());
        ensure!(text.contains(&format!("device_id = {device_id}\n")), "no device id in {text}");
        Ok(Self { name, uuid, device_id, text })
    }

    /// The same of another name, UUID and device.
    fn copy(&self, device_id: u64, names: &[(&str, String)]) -> String {
        let (from, to) = (format!("device_id = {}\n", self.device_id), format!("device_id = {device_id}\n"));
        let uuid = format!("crowdd-{device_id:04}-{device_id:04}-{device_id:04}-{device_id:04}-{device_id:04}-crowdd");
        let text = self.text.replace(&self.uuid, &uuid).replace(&from, &to);
        names.iter().fold(text, |text, (name, other)| text.replace(name, other))
    }
}

fn numbered(name: &str, number: usize) -> String {
    name.replace("00000", &format!("{number:05}"))
}
