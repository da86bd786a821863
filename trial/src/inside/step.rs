//! Single CSI calls with their answers in words, for the demo.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quarry::csi::v1;
use quarry::csi::v1::volume_usage::Unit;

use crate::client::{self, Client, mounted};
use crate::site::SOCKET;

const MIB: i64 = 1 << 20;

/// A call.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Step {
    /// `CreateVolume`
    Create { name: String, mib: i64, file_system: String },
    /// `NodeStageVolume`
    Stage { volume_id: String, path: PathBuf, file_system: String },
    /// `NodePublishVolume`
    Publish { volume_id: String, staging: PathBuf, target: PathBuf, file_system: String },
    /// `ControllerExpandVolume`, then `NodeExpandVolume`
    Grow { volume_id: String, mib: i64, path: PathBuf },
    /// `NodeGetVolumeStats`
    Stats { volume_id: String, path: PathBuf },
    /// `GetCapacity`
    Capacity,
    /// `NodeUnpublishVolume`
    Unpublish { volume_id: String, target: PathBuf },
    /// `NodeUnstageVolume`
    Unstage { volume_id: String, path: PathBuf },
    /// `DeleteVolume`
    Delete { volume_id: String },
}

/// Makes the call and prints what came of it.
pub async fn run(step: Step) -> Result<()> {
    let Client { mut controller, mut node, .. } = Client::connect(SOCKET).await?;
    match step {
        Step::Create { name, mib, file_system } => {
            let request = client::create(&name, mib * MIB, mounted(&file_system));
            let volume = controller.create_volume(request).await?.into_inner().volume.context("no volume came back")?;
            println!("volume id {}, {} MiB", volume.volume_id, volume.capacity_bytes / MIB);
        }
        Step::Stage { volume_id, path, file_system } => {
            std::fs::create_dir_all(&path)?;
            node.node_stage_volume(client::stage(&volume_id, &path, mounted(&file_system))).await?;
            println!("formatted with {file_system} and mounted at {}", path.display());
        }
        Step::Publish { volume_id, staging, target, file_system } => {
            std::fs::create_dir_all(target.parent().unwrap_or(Path::new("/")))?;
            let request = client::publish(&volume_id, &staging, &target, mounted(&file_system));
            node.node_publish_volume(request).await?;
            println!("shown at {}", target.display());
        }
        Step::Grow { volume_id, mib, path } => {
            let capacity_range = Some(v1::CapacityRange { required_bytes: mib * MIB, limit_bytes: 0 });
            let request = v1::ControllerExpandVolumeRequest {
                volume_id: volume_id.clone(),
                capacity_range,
                ..v1::ControllerExpandVolumeRequest::default()
            };
            let answer = controller.controller_expand_volume(request).await?.into_inner();
            println!("logical volume grown to {} MiB", answer.capacity_bytes / MIB);
            let request = v1::NodeExpandVolumeRequest {
                volume_id,
                volume_path: path.to_string_lossy().into_owned(),
                capacity_range,
                ..v1::NodeExpandVolumeRequest::default()
            };
            node.node_expand_volume(request).await?;
            println!("file system grown while mounted");
        }
        Step::Stats { volume_id, path } => {
            let volume_path = path.to_string_lossy().into_owned();
            let request = v1::NodeGetVolumeStatsRequest { volume_id, volume_path, ..Default::default() };
            for usage in node.node_get_volume_stats(request).await?.into_inner().usage {
                match usage.unit() {
                    Unit::Inodes => println!("inodes: {} of {} in use", usage.used, usage.total),
                    _ => println!("room: {} of {} MiB in use", usage.used / MIB, usage.total / MIB),
                }
            }
        }
        Step::Capacity => {
            let answer = controller.get_capacity(v1::GetCapacityRequest::default()).await?.into_inner();
            println!("room for new volumes: {} MiB", answer.available_capacity / MIB);
        }
        Step::Unpublish { volume_id, target } => {
            let target_path = target.to_string_lossy().into_owned();
            node.node_unpublish_volume(v1::NodeUnpublishVolumeRequest { volume_id, target_path }).await?;
            println!("gone from {}", target.display());
        }
        Step::Unstage { volume_id, path } => {
            let staging_target_path = path.to_string_lossy().into_owned();
            node.node_unstage_volume(v1::NodeUnstageVolumeRequest { volume_id, staging_target_path }).await?;
            println!("unmounted and deactivated");
        }
        Step::Delete { volume_id } => {
            controller.delete_volume(v1::DeleteVolumeRequest { volume_id, ..Default::default() }).await?;
            println!("marked as deleted; wiping and removal follow in the background");
        }
    }
    Ok(())
}
