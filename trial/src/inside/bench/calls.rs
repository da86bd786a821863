//! The node's calls as the phases make them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quarry::csi::v1;

use super::FOLDER;
use crate::client::{self, Client};

/// Bytes of every volume, ours and bare.
pub(super) const VOLUME_BYTES: i64 = 1 << 30;
/// The same for lvcreate.
pub(super) const VOLUME_SIZE: &str = "1G";

/// Makes calls over one warm connection; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    pub(super) client: Client,
}

impl Calls {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes a volume; its id.
    pub(super) async fn create(&self, name: &str) -> Result<String> {
        let request = client::create(name, VOLUME_BYTES, client::mounted("ext4"));
        let answer = self.client.controller.clone().create_volume(request).await;
        let volume = answer.with_context(|| format!("CreateVolume {name}"))?.into_inner().volume;
        Ok(volume.context("an answer without volume")?.volume_id)
    }

    pub(super) async fn delete(&self, volume_id: &str) -> Result<()> {
        let request = v1::DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..Default::default() };
        let answer = self.client.controller.clone().delete_volume(request).await;
        answer.with_context(|| format!("DeleteVolume {volume_id}")).map(drop)
    }

    pub(super) async fn stage(&self, volume_id: &str, path: &Path) -> Result<()> {
        let request = client::stage(volume_id, path, client::mounted("ext4"));
        let answer = self.client.node.clone().node_stage_volume(request).await;
        answer.with_context(|| format!("NodeStageVolume {volume_id}")).map(drop)
    }

    pub(super) async fn unstage(&self, volume_id: &str, path: &Path) -> Result<()> {
        let request = v1::NodeUnstageVolumeRequest {
            volume_id: volume_id.to_owned(),
            staging_target_path: path.to_string_lossy().into_owned(),
        };
        let answer = self.client.node.clone().node_unstage_volume(request).await;
        answer.with_context(|| format!("NodeUnstageVolume {volume_id}")).map(drop)
    }

    pub(super) async fn publish(&self, volume_id: &str, staging: &Path, target: &Path) -> Result<()> {
        let request = client::publish(volume_id, staging, target, client::mounted("ext4"));
        let answer = self.client.node.clone().node_publish_volume(request).await;
        answer.with_context(|| format!("NodePublishVolume {volume_id}")).map(drop)
    }

    pub(super) async fn unpublish(&self, volume_id: &str, target: &Path) -> Result<()> {
        let request = v1::NodeUnpublishVolumeRequest {
            volume_id: volume_id.to_owned(),
            target_path: target.to_string_lossy().into_owned(),
        };
        let answer = self.client.node.clone().node_unpublish_volume(request).await;
        answer.with_context(|| format!("NodeUnpublishVolume {volume_id}")).map(drop)
    }

    pub(super) async fn stats(&self, volume_id: &str, path: &Path) -> Result<()> {
        let request = v1::NodeGetVolumeStatsRequest {
            volume_id: volume_id.to_owned(),
            volume_path: path.to_string_lossy().into_owned(),
            ..Default::default()
        };
        let answer = self.client.node.clone().node_get_volume_stats(request).await;
        answer.with_context(|| format!("NodeGetVolumeStats {volume_id}")).map(drop)
    }

    pub(super) async fn capacity(&self) -> Result<()> {
        let answer = self.client.controller.clone().get_capacity(v1::GetCapacityRequest::default()).await;
        answer.context("GetCapacity").map(drop)
    }

    /// How many volumes a list names.
    pub(super) async fn list(&self, max_entries: i32) -> Result<usize> {
        let request = v1::ListVolumesRequest { max_entries, ..Default::default() };
        let answer = self.client.controller.clone().list_volumes(request).await;
        Ok(answer.context("ListVolumes")?.into_inner().entries.len())
    }

    pub(super) async fn get(&self, volume_id: &str) -> Result<()> {
        let request = v1::ControllerGetVolumeRequest { volume_id: volume_id.to_owned() };
        let answer = self.client.controller.clone().controller_get_volume(request).await;
        answer.with_context(|| format!("ControllerGetVolume {volume_id}")).map(drop)
    }

    pub(super) async fn probe(&self) -> Result<()> {
        let answer = self.client.identity.clone().probe(v1::ProbeRequest {}).await;
        answer.context("Probe").map(drop)
    }
}

/// A folder to stage a volume at, made as a caller makes it.
pub(super) fn staging_folder(name: &str) -> Result<PathBuf> {
    let path = Path::new(FOLDER).join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}
