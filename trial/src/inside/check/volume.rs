//! A volume that a case works with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quarry::csi::v1;
use quarry::csi::v1::volume_capability::AccessType;

use super::ground::{FOLDER, Ground, MIB};
use super::tools::{answered, eventually, lvm, run};
use crate::client;

/// MiB that a file system is content with, and half of which is left when it has grown to twice the size.
pub fn comfortable(file_system: &str) -> i64 {
    match file_system {
        "xfs" => 304,
        "btrfs" => 256,
        _ => 16,
    }
}

/// A volume of the node.
#[derive(Debug)]
pub struct Volume<'g> {
    ground: &'g Ground,
    /// The name it was asked for with.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its volume group.
    pub group: String,
    /// Its size in bytes when it was made.
    pub bytes: i64,
    /// How it is used.
    pub capability: v1::VolumeCapability,
}

impl<'g> Volume<'g> {
    pub(super) fn new(
        ground: &'g Ground,
        name: &str,
        group: &str,
        made: &v1::Volume,
        capability: v1::VolumeCapability,
    ) -> Self {
        Self {
            ground,
            name: name.to_owned(),
            id: made.volume_id.clone(),
            group: group.to_owned(),
            bytes: made.capacity_bytes,
            capability,
        }
    }

    /// The logical volume's name.
    pub fn logical_name(&self) -> &str {
        self.id.split_once('/').map_or("", |(_, name)| name)
    }

    /// `group/volume`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.group, self.logical_name())
    }

    /// The folder of its paths.
    pub fn folder(&self) -> PathBuf {
        Path::new(FOLDER).join(self.logical_name())
    }

    /// Where it is staged; the folder is there.
    pub fn staging(&self) -> Result<PathBuf> {
        let path = self.folder().join("staging");
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A path to publish it at; its parent is there, itself not.
    pub fn target(&self, user: &str) -> Result<PathBuf> {
        let folder = self.folder().join(user);
        fs::create_dir_all(&folder)?;
        Ok(folder.join("volume"))
    }

    /// Device-mapper's name of its device. By the path of the node, dmsetup finds it only when udev has been there.
    pub fn mapper_name(&self) -> String {
        let escaped = |name: &str| name.replace('-', "--");
        format!("{}-{}", escaped(&self.group), escaped(self.logical_name()))
    }

    /// Its device while it is active.
    pub fn device(&self) -> Result<PathBuf> {
        let wanted = self.mapper_name();
        for entry in fs::read_dir("/sys/block")? {
            let name = fs::read_to_string(
                entry.as_ref().map_or_else(|_| PathBuf::new(), |entry| entry.path().join("dm/name")),
            );
            if name.is_ok_and(|name| name.trim() == wanted) {
                return Ok(Path::new("/dev").join(entry?.file_name()));
            }
        }
        anyhow::bail!("{} has no device", self.full_name())
    }

    /// Whether what is written to its device is held back.
    pub fn is_suspended(&self) -> Result<bool> {
        let name = self.device()?.file_name().context("a device has a name")?.to_owned();
        Ok(fs::read_to_string(Path::new("/sys/block").join(name).join("dm/suspended"))?.trim() == "1")
    }

    /// Makes its device appear without the node; [`Volume::deactivate`] takes it away again.
    pub fn activate(&self) -> Result<PathBuf> {
        lvm(&["lvchange", "-ay", &self.full_name()])?;
        run(&["udevadm", "settle"])?;
        self.device()
    }

    /// Takes its device away without the node.
    pub fn deactivate(&self) -> Result<()> {
        run(&["udevadm", "settle"])?;
        lvm(&["lvchange", "-an", &self.full_name()]).map(drop)
    }

    /// Its tags, joined.
    pub fn tags(&self) -> Result<String> {
        lvm(&["lvs", "--noheadings", "-o", "lv_tags", &self.full_name()])
    }

    /// A request to stage it at its usual place.
    pub fn stage_request(&self) -> Result<v1::NodeStageVolumeRequest> {
        Ok(client::stage(&self.id, &self.staging()?, self.capability.clone()))
    }

    /// A request to publish it from its usual place.
    pub fn publish_request(&self, target: &Path) -> Result<v1::NodePublishVolumeRequest> {
        Ok(client::publish(&self.id, &self.staging()?, target, self.capability.clone()))
    }

    /// Stages it.
    pub async fn stage(&self) -> Result<PathBuf> {
        let answer = self.ground.client().node.node_stage_volume(self.stage_request()?).await;
        answered(answer).context("staging")?;
        self.staging()
    }

    /// Publishes it for a user; where.
    pub async fn publish(&self, user: &str) -> Result<PathBuf> {
        let target = self.target(user)?;
        let answer = self.ground.client().node.node_publish_volume(self.publish_request(&target)?).await;
        answered(answer).context("publishing")?;
        Ok(target)
    }

    /// Publishes it for a user that may only read; where.
    pub async fn publish_read_only(&self, user: &str) -> Result<PathBuf> {
        let target = self.target(user)?;
        let request = v1::NodePublishVolumeRequest { readonly: true, ..self.publish_request(&target)? };
        answered(self.ground.client().node.node_publish_volume(request).await).context("publishing read-only")?;
        Ok(target)
    }

    /// Takes it away from a path.
    pub async fn unpublish(&self, target: &Path) -> Result<()> {
        let request = v1::NodeUnpublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: target.to_string_lossy().into_owned(),
        };
        answered(self.ground.client().node.node_unpublish_volume(request).await).context("unpublishing").map(drop)
    }

    /// Unstages it.
    pub async fn unstage(&self) -> Result<()> {
        let request = v1::NodeUnstageVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging()?.to_string_lossy().into_owned(),
        };
        answered(self.ground.client().node.node_unstage_volume(request).await).context("unstaging").map(drop)
    }

    /// Grows the logical volume to at least so many bytes.
    pub async fn grow(&self, bytes: i64) -> Result<v1::ControllerExpandVolumeResponse> {
        let request = v1::ControllerExpandVolumeRequest {
            volume_id: self.id.clone(),
            capacity_range: Some(v1::CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            volume_capability: Some(self.capability.clone()),
            ..v1::ControllerExpandVolumeRequest::default()
        };
        answered(self.ground.client().controller.controller_expand_volume(request).await).context("growing")
    }

    /// Grows what is at the path to the size of the volume.
    pub async fn grow_at(&self, path: &Path) -> Result<i64> {
        let request = v1::NodeExpandVolumeRequest {
            volume_id: self.id.clone(),
            volume_path: path.to_string_lossy().into_owned(),
            staging_target_path: self.staging()?.to_string_lossy().into_owned(),
            volume_capability: Some(self.capability.clone()),
            ..v1::NodeExpandVolumeRequest::default()
        };
        let answer = self.ground.client().node.node_expand_volume(request).await;
        Ok(answered(answer).context("growing on the node")?.capacity_bytes)
    }

    /// Asks for its deletion.
    pub async fn delete(&self) -> Result<()> {
        let request = v1::DeleteVolumeRequest { volume_id: self.id.clone(), ..v1::DeleteVolumeRequest::default() };
        answered(self.ground.client().controller.delete_volume(request).await).context("deleting").map(drop)
    }

    /// Waits until LVM knows it no more.
    pub async fn gone(&self) -> Result<()> {
        let wanted = self.logical_name();
        eventually("the deleted volume is gone", || async {
            let names = lvm(&["lvs", "--noheadings", "-o", "lv_name", &self.group])?;
            Ok(!names.lines().any(|name| name.trim() == wanted))
        })
        .await
    }

    /// Takes it back from all its users and deletes it.
    pub async fn remove(self) -> Result<()> {
        let targets: Vec<PathBuf> = match fs::read_dir(self.folder()) {
            Ok(users) => users.map(|user| Ok(user?.path().join("volume"))).collect::<Result<_>>()?,
            Err(_never_used) => Vec::new(),
        };
        for target in targets.iter().filter(|target| target.symlink_metadata().is_ok()) {
            self.unpublish(target).await?;
        }
        self.unstage().await?;
        self.delete().await?;
        self.gone().await?;
        fs::remove_dir_all(self.folder())?;
        Ok(())
    }

    /// Whether it is a raw block volume.
    pub fn is_block(&self) -> bool {
        matches!(self.capability.access_type, Some(AccessType::Block(_)))
    }

    /// Its size now, bytes, as the node says.
    pub async fn size(&self) -> Result<i64> {
        let request = v1::ControllerGetVolumeRequest { volume_id: self.id.clone() };
        let answer = answered(self.ground.client().controller.controller_get_volume(request).await)?;
        Ok(answer.volume.context("no volume in the answer")?.capacity_bytes)
    }

    /// Its size when it was made, MiB.
    pub fn mib(&self) -> i64 {
        self.bytes / MIB
    }
}
