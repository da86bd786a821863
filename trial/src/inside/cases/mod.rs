//! What must hold, by theme.

use super::check::Theme;

/// Writes the list of a theme's cases: a sentence and the function that sees whether it holds.
macro_rules! cases {
    ($($sentence:literal => $function:path),+ $(,)?) => {
        pub(super) fn cases() -> Vec<$crate::inside::check::Case> {
            vec![$($crate::inside::check::Case {
                sentence: $sentence,
                steps: |ground| Box::pin($function(ground)),
            }),+]
        }
    };
}

mod arguments;
mod blocks;
mod capacity;
mod classes;
mod commands;
mod copied_files;
mod copies;
mod deleting;
mod documented;
mod foreign_data;
mod group_snapshots;
mod groups;
mod growth;
mod health;
mod held_back;
mod hung_lvm;
mod ids;
mod judges;
mod killed_lvm;
mod life;
mod listing;
mod lvm_failures;
mod metrics;
mod names;
mod paths;
mod pool_metadata;
mod pool_recovery;
mod pools;
mod restart;
mod restores;
mod sizes;
mod snapshots;
mod sources;
mod targets;
mod through_controller;
mod users;
mod writer;

pub use capacity::at_random;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use quarry::csi::v1::volume_capability::access_mode::Mode;
use quarry::csi::v1::volume_capability::{AccessType, MountVolume};

use super::check::{Ground, Volume, answered};

/// All themes.
pub fn themes() -> Vec<Theme> {
    let theme = |name, cases| Theme { name, cases };
    vec![
        theme("arguments", arguments::cases()),
        theme("sizes", sizes::cases()),
        theme("names", names::cases()),
        theme("classes", classes::cases()),
        theme("ids", ids::cases()),
        theme("paths", paths::cases()),
        theme("targets", targets::cases()),
        theme("foreign-data", foreign_data::cases()),
        theme("groups", groups::cases()),
        theme("lvm-failures", lvm_failures::cases()),
        theme("snapshots", snapshots::cases()),
        theme("restores", restores::cases()),
        theme("pools", pools::cases()),
        theme("pool-recovery", pool_recovery::cases()),
        theme("killed-lvm", killed_lvm::cases()),
        theme("held-back", held_back::cases()),
        theme("judges", judges::cases()),
        theme("group-snapshots", group_snapshots::cases()),
        theme("copied-files", copied_files::cases()),
        theme("copies", copies::cases()),
        theme("blocks", blocks::cases()),
        theme("pool-metadata", pool_metadata::cases()),
        theme("through-controller", through_controller::cases()),
        theme("life", life::cases()),
        theme("users", users::cases()),
        theme("growth", growth::cases()),
        theme("capacity", capacity::cases()),
        theme("listing", listing::cases()),
        theme("health", health::cases()),
        theme("metrics", metrics::cases()),
        theme("commands", commands::cases()),
        theme("deleting", deleting::cases()),
        theme("restart", restart::cases()),
        theme("hung-lvm", hung_lvm::cases()),
    ]
}

/// To be mounted with these options.
fn with_flags(file_system: &str, flags: &[&str]) -> v1::VolumeCapability {
    let mount_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mount = MountVolume { fs_type: file_system.to_owned(), mount_flags, ..MountVolume::default() };
    crate::client::capability(AccessType::Mount(mount), Mode::SingleNodeMultiWriter)
}

/// What a class has room for: in all, and for one volume.
async fn capacity_of(ground: &Ground, class: &str) -> Result<(i64, i64)> {
    let request =
        v1::GetCapacityRequest { parameters: crate::client::class(class), ..v1::GetCapacityRequest::default() };
    let answer = answered(ground.client().controller.get_capacity(request).await)?;
    Ok((answer.available_capacity, answer.maximum_volume_size.unwrap_or_default()))
}

/// The reasons that the controller and the node tell for the volume; both must tell the same.
async fn reasons(ground: &Ground, volume: &Volume<'_>) -> Result<Vec<String>> {
    let request = v1::ControllerGetVolumeHealthRequest { volume_id: volume.id.clone(), ..Default::default() };
    let answer = answered(ground.client().controller.controller_get_volume_health(request).await)?;
    let controller = answer.volume_health.context("no health")?;
    let request = v1::NodeGetVolumeHealthRequest { volume_id: volume.id.clone(), ..Default::default() };
    let answer = answered(ground.client().node.node_get_volume_health(request).await)?;
    let node = answer.volume_health.context("no health")?;
    ensure!(controller.volume_id == volume.id, "{controller:?}");
    ensure!(controller.health_statuses == node.health_statuses, "{controller:?} but {node:?}");
    for entry in &node.health_statuses {
        ensure!(!entry.message.is_empty(), "{} has no message", entry.reason);
        ensure!(entry.status != 0, "{} has no status", entry.reason);
    }
    Ok(node.health_statuses.into_iter().map(|entry| entry.reason).collect())
}

/// What the node tells of its storage.
async fn storage_reasons(ground: &Ground) -> Result<Vec<String>> {
    let request = v1::NodeGetStorageHealthRequest::default();
    let answer = answered(ground.client().node.node_get_storage_health(request).await)?;
    for entry in &answer.backend_health {
        ensure!(entry.status != 0, "{} has no status", entry.reason);
        ensure!(entry.message.contains("own"), "the group is not named: {}", entry.message);
    }
    Ok(answer.backend_health.into_iter().map(|entry| entry.reason).collect())
}

/// The counters of processes started, joined, from the text of the metrics.
fn started(metrics: &str) -> String {
    let counters = metrics.lines().filter(|line| line.starts_with("quarry_commands_total"));
    counters.collect::<Vec<_>>().join(", ")
}
