//! Data safety: what is on a volume that is not fresh is never written over, whatever it is.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::FailedPrecondition;

use crate::client::{block, class, mounted};
use crate::inside::check::{
    Ground, MIB, Volume, answered, are_zero, digest, digest_of_first, fill, lvm, read_at, refused, run, write_at,
};

cases! {
    "a volume that now carries another file system is refused and stays" => another_file_system,
    "a volume that now carries a partition table is refused and stays" => partition_table,
    "a volume that now carries LUKS is refused and stays" => luks,
    "a volume that now carries an LVM physical volume is refused and stays" => physical_volume,
    "a volume that now carries swap space is refused and stays" => swap,
    "a volume that now carries data of no known kind is refused and stays" => unknown_kind,
    "a volume that is all zeroes but was used before is refused and not formatted" => zeroes,
    "a block volume is never formatted by a mount" => block_then_mount,
    "a foreign signature survives every call and every restart" => every_call,
    "the group inside a volume is not taken for a group of the machine" => group_inside,
    "a fresh volume that somebody holds open is not formatted" => fresh_but_open,
    "remains of an earlier owner do not keep a fresh volume from being used" => remains,
}

/// A volume that was used as ext4 once and is not staged now; its device, made active by hand.
async fn used(ground: &Ground, mib: i64) -> Result<(Volume<'_>, std::path::PathBuf)> {
    let volume = ground.volume("used", mib, mounted("ext4")).await?;
    volume.stage().await?;
    volume.unstage().await?;
    let device = volume.activate()?;
    Ok((volume, device))
}

/// That every way to stage the volume as a file system is refused in words, and not a byte changes.
async fn refused_and_kept(ground: &Ground, volume: &Volume<'_>, device: &Path, found: &str) -> Result<()> {
    run(&["udevadm", "settle"])?;
    let before = digest(device)?;
    for file_system in ["ext4", "xfs", "btrfs", ""] {
        let request =
            v1::NodeStageVolumeRequest { volume_capability: Some(mounted(file_system)), ..volume.stage_request()? };
        let answer = ground.client().node.node_stage_volume(request).await;
        refused(answer, FailedPrecondition, &["not formatted", found])
            .with_context(|| format!("as {file_system:?}"))?;
    }
    ensure!(digest(&volume.activate()?)? == before, "its content changed");
    Ok(())
}

async fn another_file_system(ground: &Ground) -> Result<()> {
    let (volume, device) = used(ground, 304).await?;
    run(&["mkfs.xfs", "-q", "-f", "-K", &device.to_string_lossy()])?;
    run(&["udevadm", "settle"])?;
    let before = digest_of_first(&device, 8 << 20)?;
    for file_system in ["ext4", "btrfs", ""] {
        let request =
            v1::NodeStageVolumeRequest { volume_capability: Some(mounted(file_system)), ..volume.stage_request()? };
        refused(ground.client().node.node_stage_volume(request).await, FailedPrecondition, &["holds xfs"])?;
    }
    ensure!(digest_of_first(&volume.activate()?, 8 << 20)? == before, "its content changed");
    volume.remove().await
}

async fn partition_table(ground: &Ground) -> Result<()> {
    let (volume, device) = used(ground, 8).await?;
    write_at(&device, 0, &vec![0; 8 << 20])?;
    // A DOS table with one Linux partition of 4 MiB at 1 MiB.
    write_at(&device, 446, &[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0x20, 0, 0])?;
    write_at(&device, 510, &[0x55, 0xAA])?;
    refused_and_kept(ground, &volume, &device, "partition table").await?;
    volume.remove().await
}

async fn luks(ground: &Ground) -> Result<()> {
    let (volume, device) = used(ground, 20).await?;
    let format = format!(
        "echo secret | cryptsetup luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 -q {} -",
        device.display()
    );
    run(&["sh", "-c", &format])?;
    refused_and_kept(ground, &volume, &device, "LUKS").await?;
    volume.remove().await
}

async fn physical_volume(ground: &Ground) -> Result<()> {
    let (volume, device) = used(ground, 8).await?;
    lvm(&["pvcreate", "-qq", "-y", "-ff", "--config", "devices/scan_lvs=1", &device.to_string_lossy()])?;
    refused_and_kept(ground, &volume, &device, "LVM physical volume").await?;
    volume.remove().await
}

async fn swap(ground: &Ground) -> Result<()> {
    let (volume, device) = used(ground, 8).await?;
    run(&["mkswap", "-q", &device.to_string_lossy()])?;
    refused_and_kept(ground, &volume, &device, "swap").await?;
    volume.remove().await
}

async fn unknown_kind(ground: &Ground) -> Result<()> {
    let (volume, device) = used(ground, 8).await?;
    fill(&device)?;
    refused_and_kept(ground, &volume, &device, "unknown kind").await?;
    // A single byte far from the beginning, too.
    write_at(&device, 0, &vec![0; 8 << 20])?;
    write_at(&device, (8 << 20) - 1, &[1])?;
    refused_and_kept(ground, &volume, &device, "unknown kind").await?;
    volume.remove().await
}

async fn zeroes(ground: &Ground) -> Result<()> {
    let (volume, device) = used(ground, 8).await?;
    write_at(&device, 0, &vec![0; 8 << 20])?;
    refused_and_kept(ground, &volume, &device, "nothing").await?;
    ensure!(are_zero(&volume.activate()?)?);
    volume.remove().await
}

async fn block_then_mount(ground: &Ground) -> Result<()> {
    let volume = ground.volume("block", 8, block()).await?;
    volume.stage().await?;
    let target = volume.publish("user").await?;
    write_at(&target, 1 << 20, b"precious")?;
    volume.unpublish(&target).await?;
    volume.unstage().await?;
    let device = volume.activate()?;
    refused_and_kept(ground, &volume, &device, "not formatted").await?;
    ensure!(read_at(&volume.activate()?, 1 << 20, 8)? == b"precious");
    volume.remove().await
}

async fn every_call(ground: &Ground) -> Result<()> {
    let (volume, device) = used(ground, 20).await?;
    write_at(&device, 0, &vec![0; 20 << 20])?;
    lvm(&["pvcreate", "-qq", "-y", "-ff", "--config", "devices/scan_lvs=1", &device.to_string_lossy()])?;
    write_at(&device, 10 << 20, b"precious")?;
    let before = digest(&device)?;
    let mut node = ground.client().node;
    let mut controller = ground.client().controller;
    let target = volume.target("user")?;
    // Whether these are done or refused is for other cases to judge.
    node.node_stage_volume(volume.stage_request()?).await.ok();
    node.node_publish_volume(volume.publish_request(&target)?).await.ok();
    volume.grow(24 * MIB).await?;
    volume.grow_at(&target).await.ok();
    let validate = v1::ValidateVolumeCapabilitiesRequest {
        volume_id: volume.id.clone(),
        volume_capabilities: vec![mounted("ext4")],
        ..v1::ValidateVolumeCapabilitiesRequest::default()
    };
    answered(controller.validate_volume_capabilities(validate).await)?;
    let request = ground.request("main", &volume.name, 20 * MIB, mounted("ext4"));
    answered(controller.create_volume(request).await)?;
    answered(controller.list_volumes(v1::ListVolumesRequest::default()).await)?;
    let health = v1::ControllerListVolumeHealthRequest::default();
    answered(controller.controller_list_volume_health(health).await)?;
    let health =
        v1::NodeGetVolumeHealthRequest { volume_id: volume.id.clone(), ..v1::NodeGetVolumeHealthRequest::default() };
    answered(node.node_get_volume_health(health).await)?;
    volume.unpublish(&target).await?;
    ground.crash().await?;
    ground.client().node.node_stage_volume(volume.stage_request()?).await.ok();
    volume.unstage().await?;
    ground.crash().await?;
    ensure!(digest_of_first(&volume.activate()?, 20 << 20)? == before, "its content changed");
    volume.remove().await
}

async fn group_inside(ground: &Ground) -> Result<()> {
    let volume = ground.volume("guest", 16, block()).await?;
    volume.stage().await?;
    let target = volume.publish("user").await?;
    let device = volume.device()?.to_string_lossy().into_owned();
    lvm(&["vgcreate", "-qq", "--config", "devices/scan_lvs=1", "own", &device])?;
    let before = digest(&target)?;
    let request = v1::GetCapacityRequest { parameters: class("own"), ..v1::GetCapacityRequest::default() };
    let capacity = answered(ground.client().controller.get_capacity(request).await)?;
    ensure!(capacity.available_capacity == 0, "the guest's group counts as one of the machine");
    let request = ground.request("own", "in-the-guest", 4 * MIB, block());
    let answer = ground.client().controller.create_volume(request).await;
    refused(answer, tonic::Code::ResourceExhausted, &["no volume group own"])?;
    ensure!(digest(&target)? == before, "its content changed");
    volume.remove().await
}

async fn fresh_but_open(ground: &Ground) -> Result<()> {
    for capability in [mounted("ext4"), block()] {
        let volume = ground.volume("fresh", 8, capability).await?;
        let device = volume.activate()?;
        write_at(&device, 4096, b"precious")?;
        let held = File::open(&device)?;
        let answer = ground.client().node.node_stage_volume(volume.stage_request()?).await;
        refused(answer, FailedPrecondition, &["open", "not formatted"])?;
        ensure!(read_at(&device, 4096, 8)? == b"precious", "it was overwritten");
        drop(held);
        volume.stage().await?;
        volume.remove().await?;
    }
    Ok(())
}

async fn remains(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    lvm(&["lvcreate", "-qq", "-y", "-l", "100%FREE", "-n", "earlier", "own"])?;
    run(&["udevadm", "settle"])?;
    let device = std::fs::canonicalize("/dev/own/earlier")?;
    fill(&device)?;
    run(&["mkfs.ext4", "-q", "-F", &device.to_string_lossy()])?;
    write_at(&device, 512, b"LABELONE")?;
    write_at(&device, 510, &[0x55, 0xAA])?;
    run(&["udevadm", "settle"])?;
    lvm(&["lvremove", "-qq", "-y", "own/earlier"])?;
    let volume = ground.volume_in("own", "own", "later", 16, mounted("ext4")).await?;
    let staging = volume.stage().await?;
    std::fs::write(staging.join("f"), "data")?;
    volume.remove().await?;
    group.remove()
}
