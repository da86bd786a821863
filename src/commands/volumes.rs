//! `quarry volumes`: what is on this node. Reads the disks and the kernel's tables itself: no lvm process is
//! started and no node is asked, so it works beside a node, without one, and while one hangs.

mod table;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::json;

use crate::commands::machine::{Machine, block_on, is_root};
use crate::config::flags::{OutputFormat, VolumesFlags};
use crate::host::kernel::{Kernel, MappedDevice, MountEntry};
use crate::lvm::groups::View;
use crate::lvm::volume_id::VolumeId;
use crate::node::device::{mounts_of, shows_device};
use crate::node::health::conditions;
use crate::node::volume::{Volume, device_path};

/// Where a volume is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Never used: empty, to be formatted at its first use.
    New,
    /// Used before, in no use now.
    Ready,
    /// Made ready for users on this node, shown to none.
    Staged,
    /// Shown to users.
    Published,
    /// Deleted for its caller; its blocks are wiped, then it is removed.
    Deleting,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Ready => "ready",
            Self::Staged => "staged",
            Self::Published => "published",
            Self::Deleting => "deleting",
        }
    }
}

/// One volume, with the keys of the JSON output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    /// The name that the CSI request gave it.
    name: String,
    claim: Option<String>,
    class: String,
    volume_group: String,
    bytes: u64,
    /// `ext4`, `xfs`, `btrfs` once formatted, `block` once staged as a raw device.
    content: Option<String>,
    state: State,
    /// What is done to the blocks of a volume that is being deleted.
    wipe: Option<&'static str>,
    staged_at: Option<String>,
    published_at: Vec<String>,
    /// Its device, while it is active.
    device: Option<String>,
    open_count: u32,
    /// What is wrong with it, in words.
    problems: Vec<String>,
}

/// What is on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Inventory {
    rows: Vec<Row>,
    /// Why there may be volumes that are not among the rows.
    unseen: Vec<String>,
}

/// Writes what is on this node.
pub fn run(flags: &VolumesFlags, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let node = flags.identity.topology_value().context("could not find out the host's name; give --node-name")?;
    ensure!(is_root(), "`quarry volumes` reads the disks themselves, which only root may: run it with sudo");
    let inventory = block_on(async {
        let machine = Machine::new();
        let view = machine.groups.read().await?;
        let devices = machine.kernel.mapped_devices().await.context("could not ask device-mapper")?;
        let mounts = machine.kernel.mounts().await.context("could not read the mount table")?;
        Ok(inventory(&node, &view, &devices, &mounts))
    })?;
    match flags.output.format {
        OutputFormat::Text => write!(out, "{}", table::in_words(&inventory))?,
        OutputFormat::Json => {
            let json = json!({ "node": node, "volumes": inventory.rows, "unseen": inventory.unseen });
            writeln!(out, "{json}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn inventory(node: &str, view: &View, devices: &[MappedDevice], mounts: &[MountEntry]) -> Inventory {
    let mut rows = Vec::new();
    for volume in Volume::all(view) {
        let mut row = row(node, &volume, devices, mounts);
        let namesakes = view
            .logical_volumes(&volume.logical.name)
            .filter(|(group, other)| group.uuid != volume.group.uuid && Volume::of(group, other).is_some());
        row.problems.extend(namesakes.map(|(group, other)| {
            let group = &group.name;
            format!(
                "volume group {group} has a volume of this name too; nothing is done to either: rename one \
                 (lvrename {group}/{} NEW)",
                other.name
            )
        }));
        rows.push(row);
    }
    let unusable = view.unusable.iter().map(|unusable| {
        format!("volume group {} cannot be used, its volumes are not shown: {}", unusable.name, unusable.reason)
    });
    let unreadable = view.unreadable.iter().map(|unreadable| {
        format!("{} cannot be read, volumes on it are not shown: {}", unreadable.device.display(), unreadable.reason)
    });
    Inventory { rows, unseen: unusable.chain(unreadable).collect() }
}

fn row(node: &str, volume: &Volume, devices: &[MappedDevice], mounts: &[MountEntry]) -> Row {
    let device = volume.device(devices);
    let shown = device.map_or_else(Vec::new, |device| mounts_of(mounts, device));
    // The mount table says only that a mount is of the volume. Publishing shows what was staged before, so the
    // first mount of a file system is where it is staged; a raw device is staged without a mount.
    let is_raw = device.is_some_and(|device| shown.first().is_some_and(|mount| shows_device(mount, device)));
    let mut targets = shown.iter().map(|mount| path(&mount.target));
    let staged_at = if is_raw { None } else { targets.next() };
    let published_at: Vec<String> = targets.collect();

    let mut problems: Vec<String> =
        conditions(volume, device, mounts).into_iter().map(|condition| condition.message).collect();
    // While a volume is wiped, the node itself has it open.
    let may_be_forgotten = volume.tags.deleting.is_none() && shown.is_empty();
    if let Some(device) = device.filter(|device| device.open_count > 0 && may_be_forgotten) {
        problems.push(format!(
            "something has its device {} open, but it is mounted nowhere that this process sees",
            device_path(device).display()
        ));
    }
    let tags = &volume.tags;
    let state = if tags.deleting.is_some() {
        State::Deleting
    } else if !published_at.is_empty() {
        State::Published
    } else if staged_at.is_some() || (tags.block && device.is_some()) {
        State::Staged
    } else if tags.fresh {
        State::New
    } else {
        State::Ready
    };
    Row {
        id: VolumeId::text(node, &volume.logical.name),
        name: tags.name.clone(),
        claim: tags.claim.as_ref().map(|claim| format!("{}/{}", claim.namespace, claim.name)),
        class: tags.class.clone(),
        volume_group: volume.group.name.clone(),
        bytes: volume.bytes(),
        content: if tags.block { Some(String::from("block")) } else { tags.file_system.clone() },
        state,
        wipe: tags.deleting.map(crate::lvm::wipe::Wipe::word),
        staged_at,
        published_at,
        device: device.map(|device| path(&device_path(device))),
        open_count: device.map_or(0, |device| device.open_count),
        problems,
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
