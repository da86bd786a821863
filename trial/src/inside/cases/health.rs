//! Health: what is wrong with volumes and with the node's storage, while it is wrong and no longer.

use std::fs;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::NotFound;

use crate::client::{block, mounted};
use crate::inside::check::{Ground, Group, Volume, answered, eventually, lvm, refused, run};

use super::{reasons, storage_reasons, with_flags};

cases! {
    "a healthy volume on healthy storage has no conditions" => healthy,
    "a pulled disk is told of the volumes on it and of the storage, until it is back" => pulled_disk,
    "a disk that fails under a mounted volume is told" => failing_disk,
    "a suspended device is told with the command that helps" => suspended,
    "a file system that met errors is told, also after it was unmounted" => errors,
    "a file system that turned read-only is told" => turned_read_only,
    "a volume that should be at a path but is not active is told" => inactive,
    "storage tells of groups that cannot be used or are gone" => storage,
    "the list of unhealthy volumes holds those alone" => list_of_unhealthy,
    "the health of a volume that is not there is not known" => unknown,
}

async fn healthy(ground: &Ground) -> Result<()> {
    let volume = ground.volume("healthy", 8, mounted("ext4")).await?;
    for stage in [false, true] {
        if stage {
            volume.stage().await?;
            volume.publish("user").await?;
        }
        ensure!(reasons(ground, &volume).await?.is_empty());
        ensure!(storage_reasons(ground).await?.is_empty());
    }
    volume.remove().await
}

async fn pulled_disk(ground: &Ground) -> Result<()> {
    let group = Group::make("own", vec![ground.slice(16)?, ground.slice(16)?])?;
    // The first fills the first disk, so that the second lies on the second alone.
    let first = ground.volume_in("own", "own", "first", 12, block()).await?;
    let second = ground.volume_in("own", "own", "second", 12, block()).await?;
    let pulled = group.slices.last().context("two slices")?;
    pulled.pull()?;
    ensure!(reasons(ground, &first).await?.is_empty(), "the volume on the other disk is told of");
    ensure!(reasons(ground, &second).await? == ["PhysicalVolumeMissing"], "{:?}", reasons(ground, &second).await?);
    ensure!(storage_reasons(ground).await? == ["PhysicalVolumeMissing"], "{:?}", storage_reasons(ground).await?);
    pulled.plug()?;
    ensure!(reasons(ground, &second).await?.is_empty() && storage_reasons(ground).await?.is_empty());
    first.remove().await?;
    second.remove().await?;
    group.remove()
}

async fn failing_disk(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 64)?;
    let volume = ground.volume_in("own", "own", "fails", 16, mounted("ext4")).await?;
    volume.stage().await?;
    group.slice()?.fail()?;
    let storage = storage_reasons(ground).await?;
    ensure!(storage == ["VolumeGroupUnusable"], "{storage:?}");
    // What the group holds cannot be known now; that is an error that passes, not the answer that all is well.
    let request = v1::NodeGetVolumeHealthRequest { volume_id: volume.id.clone(), ..Default::default() };
    match ground.client().node.node_get_volume_health(request).await {
        Ok(answer) => {
            let health = answer.into_inner().volume_health.context("no health")?;
            ensure!(!health.health_statuses.is_empty(), "the volume is told to be healthy");
        }
        Err(status) => ensure!(status.code() == tonic::Code::Unavailable, "{status:?}"),
    }
    group.slice()?.repair()?;
    volume.unstage().await?;
    ensure!(storage_reasons(ground).await?.is_empty());
    volume.remove().await?;
    group.remove()
}

async fn suspended(ground: &Ground) -> Result<()> {
    let volume = ground.volume("suspended", 8, mounted("ext4")).await?;
    volume.stage().await?;
    let device = volume.mapper_name();
    run(&["dmsetup", "suspend", &device])?;
    let told = reasons(ground, &volume).await;
    run(&["dmsetup", "resume", &device])?;
    ensure!(told? == ["LogicalVolumeSuspended"]);
    ensure!(reasons(ground, &volume).await?.is_empty());
    // One that was left suspended is set going again by the next stage.
    volume.unstage().await?;
    volume.activate()?;
    run(&["dmsetup", "suspend", &device])?;
    volume.stage().await?;
    volume.remove().await
}

async fn errors(ground: &Ground) -> Result<()> {
    let volume = ground.volume("errors", 8, with_flags("ext4", &["errors=continue"])).await?;
    volume.stage().await?;
    trigger_error(&volume)?;
    // The kernel writes it to the disk in its own time.
    let is_told = || async { Ok(reasons(ground, &volume).await? == ["FileSystemErrors"]) };
    eventually("the errors are told", is_told).await?;
    volume.unstage().await?;
    let device = volume.activate()?;
    ensure!(reasons(ground, &volume).await? == ["FileSystemErrors"], "{:?}", reasons(ground, &volume).await?);
    // e2fsck says with its status that it corrected something.
    run(&["sh", "-c", &format!("e2fsck -f -y {} >/dev/null 2>&1 || [ $? -le 1 ]", device.display())])?;
    ensure!(reasons(ground, &volume).await?.is_empty(), "{:?}", reasons(ground, &volume).await?);
    volume.remove().await
}

fn trigger_error(volume: &Volume<'_>) -> Result<()> {
    let device = volume.device()?;
    let name = device.file_name().context("a device has a name")?.to_string_lossy().into_owned();
    fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "an error for a test")?;
    run(&["sync", "--file-system", &volume.staging()?.to_string_lossy()]).map(drop)
}

async fn turned_read_only(ground: &Ground) -> Result<()> {
    let volume = ground.volume("read-only", 8, with_flags("ext4", &["errors=remount-ro"])).await?;
    volume.stage().await?;
    trigger_error(&volume).ok();
    ensure!(fs::write(volume.staging()?.join("f"), "x").is_err(), "it did not turn read-only");
    let told = reasons(ground, &volume).await?;
    ensure!(told.iter().any(|reason| reason == "FileSystemReadOnly"), "{told:?}");
    volume.remove().await
}

async fn inactive(ground: &Ground) -> Result<()> {
    let volume = ground.volume("inactive", 8, mounted("ext4")).await?;
    let request = v1::NodeGetVolumeHealthRequest {
        volume_id: volume.id.clone(),
        staging_target_path: volume.staging()?.to_string_lossy().into_owned(),
        ..Default::default()
    };
    let answer = answered(ground.client().node.node_get_volume_health(request).await)?;
    let health = answer.volume_health.context("no health")?;
    ensure!(health.health_statuses.iter().any(|entry| entry.reason == "LogicalVolumeInactive"), "{health:?}");
    volume.remove().await
}

async fn storage(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let volume = ground.volume_in("own", "own", "stored", 4, block()).await?;
    lvm(&["vgexport", "-qq", "own"])?;
    let told = storage_reasons(ground).await?;
    ensure!(told == ["VolumeGroupUnwritable"], "an exported group: {told:?}");
    lvm(&["vgimport", "-qq", "own"])?;
    group.slice()?.pull()?;
    ensure!(storage_reasons(ground).await? == ["VolumeGroupMissing"], "{:?}", storage_reasons(ground).await?);
    // An answer that only fails would leave what was known of the volume before.
    ensure!(reasons(ground, &volume).await? == ["VolumeGroupMissing"], "{:?}", reasons(ground, &volume).await?);
    ensure!(unhealthy(ground).await? == std::slice::from_ref(&volume.id), "it is not in the list");
    group.slice()?.plug()?;
    ensure!(storage_reasons(ground).await?.is_empty());
    volume.remove().await?;
    group.remove()?;
    ensure!(storage_reasons(ground).await?.is_empty(), "a group that was removed is told of");
    Ok(())
}

/// The ids in the list of unhealthy volumes.
async fn unhealthy(ground: &Ground) -> Result<Vec<String>> {
    let request = v1::ControllerListVolumeHealthRequest::default();
    let answer = answered(ground.client().controller.controller_list_volume_health(request).await)?;
    Ok(answer.entries.into_iter().map(|entry| entry.volume_id).collect())
}

async fn list_of_unhealthy(ground: &Ground) -> Result<()> {
    let good = ground.volume("good", 8, mounted("ext4")).await?;
    let bad = ground.volume("bad", 8, mounted("ext4")).await?;
    good.stage().await?;
    bad.stage().await?;
    ensure!(unhealthy(ground).await?.is_empty());
    let device = bad.mapper_name();
    run(&["dmsetup", "suspend", &device])?;
    let told = unhealthy(ground).await;
    run(&["dmsetup", "resume", &device])?;
    ensure!(told? == std::slice::from_ref(&bad.id));
    good.remove().await?;
    bad.remove().await
}

async fn unknown(ground: &Ground) -> Result<()> {
    let volume_id = || String::from("lab-node/none");
    let request = v1::ControllerGetVolumeHealthRequest { volume_id: volume_id(), ..Default::default() };
    let answer = ground.client().controller.controller_get_volume_health(request).await;
    refused(answer, NotFound, &["lab-node/none"])?;
    let request = v1::NodeGetVolumeHealthRequest { volume_id: volume_id(), ..Default::default() };
    refused(ground.client().node.node_get_volume_health(request).await, NotFound, &["lab-node/none"])
}
