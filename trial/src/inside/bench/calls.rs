//! The node's calls as the phases make them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
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

/// A raw volume in use.
pub(super) struct Raw {
    pub(super) id: String,
    staging: PathBuf,
    /// Its device as its user sees it.
    pub(super) target: PathBuf,
}

impl Calls {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes a volume; its id.
    pub(super) async fn create(&self, name: &str) -> Result<String> {
        self.create_as(client::create(name, VOLUME_BYTES, client::mounted("ext4"))).await
    }

    /// Makes a volume as a request says; its id.
    pub(super) async fn create_as(&self, request: v1::CreateVolumeRequest) -> Result<String> {
        let name = request.name.clone();
        let answer = self.client.controller.clone().create_volume(request).await;
        let volume = answer.with_context(|| format!("CreateVolume {name}"))?.into_inner().volume;
        Ok(volume.context("an answer without volume")?.volume_id)
    }

    /// Makes a volume of so many bytes from another one or from a snapshot; its id.
    pub(super) async fn copy(&self, name: &str, bytes: i64, class: &str, source: (&str, bool)) -> Result<String> {
        let (id, is_snapshot) = source;
        let request = client::create(name, bytes, client::mounted("ext4"));
        let volume_content_source = Some(client::source(id, is_snapshot));
        self.create_as(v1::CreateVolumeRequest { volume_content_source, ..in_class(request, class) }).await
    }

    /// Makes a snapshot of a volume; its id.
    pub(super) async fn snapshot(&self, name: &str, volume_id: &str) -> Result<String> {
        let request = v1::CreateSnapshotRequest {
            name: name.to_owned(),
            source_volume_id: volume_id.to_owned(),
            ..v1::CreateSnapshotRequest::default()
        };
        let answer = self.client.controller.clone().create_snapshot(request).await;
        let snapshot = answer.with_context(|| format!("CreateSnapshot {name}"))?.into_inner().snapshot;
        let snapshot = snapshot.context("an answer without snapshot")?;
        ensure!(snapshot.ready_to_use, "{} is not ready", snapshot.snapshot_id);
        Ok(snapshot.snapshot_id)
    }

    pub(super) async fn delete_snapshot(&self, snapshot_id: &str) -> Result<()> {
        let request = v1::DeleteSnapshotRequest { snapshot_id: snapshot_id.to_owned(), ..Default::default() };
        let answer = self.client.controller.clone().delete_snapshot(request).await;
        answer.with_context(|| format!("DeleteSnapshot {snapshot_id}")).map(drop)
    }

    pub(super) async fn delete(&self, volume_id: &str) -> Result<()> {
        let request = v1::DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..Default::default() };
        let answer = self.client.controller.clone().delete_volume(request).await;
        answer.with_context(|| format!("DeleteVolume {volume_id}")).map(drop)
    }

    pub(super) async fn stage(&self, volume_id: &str, path: &Path) -> Result<()> {
        self.stage_as(volume_id, path, client::mounted("ext4")).await
    }

    pub(super) async fn stage_as(&self, volume_id: &str, path: &Path, capability: v1::VolumeCapability) -> Result<()> {
        let request = client::stage(volume_id, path, capability);
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
        self.publish_as(volume_id, staging, target, client::mounted("ext4")).await
    }

    pub(super) async fn publish_as(
        &self,
        volume_id: &str,
        staging: &Path,
        target: &Path,
        capability: v1::VolumeCapability,
    ) -> Result<()> {
        let request = client::publish(volume_id, staging, target, capability);
        let answer = self.client.node.clone().node_publish_volume(request).await;
        answer.with_context(|| format!("NodePublishVolume {volume_id}")).map(drop)
    }

    /// Makes a raw volume and gives it to a user.
    pub(super) async fn use_raw(&self, name: &str, bytes: u64, class: Option<&str>) -> Result<Raw> {
        let request = client::create(&format!("pvc-{name}"), i64::try_from(bytes)?, client::block());
        let request = match class {
            Some(class) => in_class(request, class),
            None => request,
        };
        let id = self.create_as(request).await?;
        let (staging, target) = (staging_folder(name)?, staging_folder("targets")?.join(name));
        self.stage_as(&id, &staging, client::block()).await?;
        self.publish_as(&id, &staging, &target, client::block()).await?;
        Ok(Raw { id, staging, target })
    }

    /// Takes it back from its user; it is still there.
    pub(super) async fn leave(&self, raw: &Raw) -> Result<()> {
        self.unpublish(&raw.id, &raw.target).await?;
        self.unstage(&raw.id, &raw.staging).await
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

    /// How many snapshots a list names.
    pub(super) async fn list_snapshots(&self) -> Result<usize> {
        let answer = self.client.controller.clone().list_snapshots(v1::ListSnapshotsRequest::default()).await;
        Ok(answer.context("ListSnapshots")?.into_inner().entries.len())
    }

    pub(super) async fn health(&self, volume_id: &str) -> Result<()> {
        let request = v1::ControllerGetVolumeHealthRequest { volume_id: volume_id.to_owned(), ..Default::default() };
        let answer = self.client.controller.clone().controller_get_volume_health(request).await;
        answer.with_context(|| format!("ControllerGetVolumeHealth {volume_id}")).map(drop)
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

/// The request with a class that is not the default.
pub(super) fn in_class(request: v1::CreateVolumeRequest, class: &str) -> v1::CreateVolumeRequest {
    v1::CreateVolumeRequest { parameters: client::class(class), ..request }
}

/// A folder to stage a volume at, made as a caller makes it.
pub(super) fn staging_folder(name: &str) -> Result<PathBuf> {
    let path = Path::new(FOLDER).join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}
