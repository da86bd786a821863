//! The whole life of a volume, each call several times: a repeated call is done, and answers the same.

use std::fs;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::{AlreadyExists, FailedPrecondition, NotFound};

use crate::client::{block, mounted};
use crate::inside::check::{
    Ground, MIB, Volume, answered, comfortable, digest, file_with, fill, metrics, refused, run,
};

use super::started;

cases! {
    "ext4: every call three times, and the data is there after all of them" => ext4,
    "xfs: every call three times, and the data is there after all of them" => xfs,
    "btrfs: every call three times, and the data is there after all of them" => btrfs,
    "block: every call three times, and the data is there after all of them" => raw_block,
    "a volume that is mounted or open is not deleted" => in_use,
    "a volume that is published is not unstaged" => unstaged_too_early,
    "a volume that somebody uses where it is staged is not unstaged before that ends" => busy_folder,
    "a volume that is not staged, or staged elsewhere, is not published" => published_too_early,
    "a volume is not staged as another file system than it holds" => another_file_system,
    "a stage that differs from the one there is refused" => staged_otherwise,
    "the same name with another class, file system or mkfs option is refused" => created_otherwise,
    "a stage with options that undo each other, or that the kernel does not show, can be repeated" => repeated_options,
    "a volume that is mounted is not staged as a block device" => block_over_mount,
    "validation confirms what works and says why something does not" => validation,
    "data outlives unstage, stage and a crash" => data_outlives,
    "publish, unpublish, stats, capacity, list and health start no process" => no_process,
}

async fn ext4(ground: &Ground) -> Result<()> {
    every_call_thrice(ground, "ext4").await
}

async fn xfs(ground: &Ground) -> Result<()> {
    every_call_thrice(ground, "xfs").await
}

async fn btrfs(ground: &Ground) -> Result<()> {
    every_call_thrice(ground, "btrfs").await
}

async fn every_call_thrice(ground: &Ground, file_system: &str) -> Result<()> {
    let mib = comfortable(file_system);
    let volume = ground.volume("life", mib, mounted(file_system)).await?;
    for _ in 0..2 {
        let request = ground.request("main", &volume.name, mib * MIB, mounted(file_system));
        let made = answered(ground.client().controller.create_volume(request).await)?.volume.context("no volume")?;
        ensure!(made.volume_id == volume.id && made.capacity_bytes == volume.bytes, "another answer: {made:?}");
    }
    let staging = thrice(async || volume.stage().await).await?;
    let target = thrice(async || volume.publish("user").await).await?;
    file_with(&target.join("f"), 1 << 20)?;
    let data = digest(&target.join("f"))?;
    thrice(async || volume.publish("user").await).await?;
    thrice(async || volume.stage().await).await?;
    ensure!(digest(&staging.join("f"))? == data, "the staging path shows something else");
    let larger = (mib + 16) * MIB;
    thrice(async || volume.grow(larger).await).await?;
    thrice(async || volume.grow_at(&target).await).await?;
    let usage = thrice(async || stats(ground, &volume, &target).await).await?;
    ensure!(usage.len() == 2 && usage[0].total > mib * MIB / 2 && usage[0].used > 1 << 20, "{usage:?}");
    thrice(async || volume.unpublish(&target).await).await?;
    ensure!(target.symlink_metadata().is_err(), "the target is still there");
    ensure!(digest(&staging.join("f"))? == data, "the unpublish took the data");
    thrice(async || volume.unstage().await).await?;
    ensure!(volume.device().is_err(), "it is still active");
    gone_thrice(volume).await
}

async fn raw_block(ground: &Ground) -> Result<()> {
    let volume = ground.volume("life", 8, block()).await?;
    thrice(async || volume.stage().await).await?;
    let target = thrice(async || volume.publish("user").await).await?;
    fill(&target)?;
    let data = digest(&target)?;
    thrice(async || volume.publish("user").await).await?;
    thrice(async || volume.stage().await).await?;
    ensure!(digest(&target)? == data, "a repeated call changed the data");
    let grown = thrice(async || volume.grow(16 * MIB).await).await?;
    ensure!(!grown.node_expansion_required, "a block volume needs no growth on the node");
    thrice(async || volume.grow_at(&target).await).await?;
    let usage = thrice(async || stats(ground, &volume, &target).await).await?;
    ensure!(usage.len() == 1 && usage[0].total == 16 * MIB, "{usage:?}");
    thrice(async || volume.unpublish(&target).await).await?;
    ensure!(target.symlink_metadata().is_err(), "the target is still there");
    thrice(async || volume.unstage().await).await?;
    ensure!(volume.device().is_err(), "it is still active");
    gone_thrice(volume).await
}

/// Deletes three times while it is there and once when it is gone.
async fn gone_thrice(volume: Volume<'_>) -> Result<()> {
    thrice(async || volume.delete().await).await?;
    volume.gone().await?;
    volume.delete().await?;
    ensure!(volume.size().await.is_err(), "it can still be looked at");
    fs::remove_dir_all(volume.folder())?;
    Ok(())
}

/// Does something three times; the answers must be the same.
async fn thrice<T: PartialEq + std::fmt::Debug>(work: impl AsyncFn() -> Result<T>) -> Result<T> {
    let first = work().await?;
    for turn in ["second", "third"] {
        let again = work().await.with_context(|| format!("the {turn} time"))?;
        ensure!(again == first, "the {turn} time the answer was {again:?}, not {first:?}");
    }
    Ok(first)
}

async fn stats(ground: &Ground, volume: &Volume<'_>, path: &std::path::Path) -> Result<Vec<v1::VolumeUsage>> {
    let request = v1::NodeGetVolumeStatsRequest {
        volume_id: volume.id.clone(),
        volume_path: path.to_string_lossy().into_owned(),
        ..v1::NodeGetVolumeStatsRequest::default()
    };
    Ok(answered(ground.client().node.node_get_volume_stats(request).await).context("stats")?.usage)
}

async fn in_use(ground: &Ground) -> Result<()> {
    for capability in [mounted("ext4"), block()] {
        let volume = ground.volume("in-use", 4, capability).await?;
        let request = v1::DeleteVolumeRequest { volume_id: volume.id.clone(), ..v1::DeleteVolumeRequest::default() };
        volume.stage().await?;
        let target = volume.publish("user").await?;
        let held = fs::File::open(&target)?;
        let answer = ground.client().controller.delete_volume(request.clone()).await;
        refused(answer, FailedPrecondition, &[volume.logical_name()])?;
        drop(held);
        if !volume.is_block() {
            volume.unpublish(&target).await?;
            let answer = ground.client().controller.delete_volume(request).await;
            refused(answer, FailedPrecondition, &["mounted at", "staging"])?;
        }
        ensure!(!volume.tags()?.contains("deleting"), "it is marked as deleted all the same");
        volume.remove().await?;
    }
    Ok(())
}

async fn busy_folder(ground: &Ground) -> Result<()> {
    let volume = ground.volume("busy", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let staging = volume.staging()?;
    let held = fs::File::open(&staging)?;
    let staging_target_path = staging.to_string_lossy().into_owned();
    let request = v1::NodeUnstageVolumeRequest { volume_id: volume.id.clone(), staging_target_path };
    let answer = ground.client().node.node_unstage_volume(request).await;
    refused(answer, FailedPrecondition, &["cannot be unmounted", "is open"])?;
    ensure!(volume.device().is_ok(), "its device is gone");
    drop(held);
    volume.unstage().await?;
    volume.remove().await
}

async fn unstaged_too_early(ground: &Ground) -> Result<()> {
    for capability in [mounted("ext4"), block()] {
        let volume = ground.volume("early", 4, capability).await?;
        volume.stage().await?;
        let target = volume.publish("user").await?;
        let request = v1::NodeUnstageVolumeRequest {
            volume_id: volume.id.clone(),
            staging_target_path: volume.staging()?.to_string_lossy().into_owned(),
        };
        let answer = ground.client().node.node_unstage_volume(request).await;
        refused(answer, FailedPrecondition, &["still published at", &target.to_string_lossy()])?;
        ensure!(volume.device().is_ok(), "its device is gone");
        volume.remove().await?;
    }
    Ok(())
}

async fn published_too_early(ground: &Ground) -> Result<()> {
    for capability in [mounted("ext4"), block()] {
        let volume = ground.volume("early", 4, capability).await?;
        let target = volume.target("user")?;
        let answer = ground.client().node.node_publish_volume(volume.publish_request(&target)?).await;
        refused(answer, FailedPrecondition, &["not staged"])?;
        ensure!(target.symlink_metadata().is_err(), "the target was made");
        volume.activate()?;
        let answer = ground.client().node.node_publish_volume(volume.publish_request(&target)?).await;
        refused(answer, FailedPrecondition, &["not staged"])?;
        ensure!(target.symlink_metadata().is_err(), "the target was made");
        volume.deactivate()?;
        volume.remove().await?;
    }
    let volume = ground.volume("early", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let target = volume.target("user")?;
    let elsewhere = v1::NodePublishVolumeRequest {
        staging_target_path: volume.folder().join("elsewhere").to_string_lossy().into_owned(),
        ..volume.publish_request(&target)?
    };
    refused(ground.client().node.node_publish_volume(elsewhere).await, FailedPrecondition, &["elsewhere", "stage it"])?;
    volume.remove().await
}

async fn another_file_system(ground: &Ground) -> Result<()> {
    let volume = ground.volume("other", 4, mounted("ext4")).await?;
    let staging = volume.stage().await?;
    fs::write(staging.join("f"), "data")?;
    volume.unstage().await?;
    for other in ["xfs", "btrfs"] {
        let request = v1::NodeStageVolumeRequest { volume_capability: Some(mounted(other)), ..volume.stage_request()? };
        let answer = ground.client().node.node_stage_volume(request).await;
        refused(answer, FailedPrecondition, &[other, "holds ext4"])?;
    }
    ensure!(fs::read(volume.stage().await?.join("f"))? == b"data");
    volume.remove().await
}

async fn staged_otherwise(ground: &Ground) -> Result<()> {
    let volume = ground.volume("otherwise", 4, mounted("ext4")).await?;
    volume.stage().await?;
    for other in [mounted("xfs"), with_flags(&["ro"]), with_flags(&["noatime"])] {
        let request = v1::NodeStageVolumeRequest { volume_capability: Some(other), ..volume.stage_request()? };
        refused(ground.client().node.node_stage_volume(request).await, AlreadyExists, &["staged"])?;
    }
    volume.remove().await
}

async fn repeated_options(ground: &Ground) -> Result<()> {
    for flags in [&["strictatime"][..], &["ro", "rw"], &["noatime", "relatime", "nosuid", "suid"], &["defaults"]] {
        let volume = ground.volume("options", 4, with_flags(flags)).await?;
        let staging = volume.stage().await?;
        fs::write(staging.join("f"), "data").with_context(|| format!("with {flags:?}"))?;
        volume.stage().await.with_context(|| format!("again with {flags:?}"))?;
        let target = volume.publish("user").await?;
        volume.publish("user").await.with_context(|| format!("publishing again with {flags:?}"))?;
        volume.unpublish(&target).await?;
        volume.remove().await?;
    }
    Ok(())
}

async fn block_over_mount(ground: &Ground) -> Result<()> {
    let volume = ground.volume("mounted", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let request = v1::NodeStageVolumeRequest { volume_capability: Some(block()), ..volume.stage_request()? };
    refused(ground.client().node.node_stage_volume(request).await, AlreadyExists, &["with a file system"])?;
    ensure!(!volume.tags()?.contains("quarry.block"), "it counts as a block volume");
    volume.remove().await
}

fn with_flags(flags: &[&str]) -> v1::VolumeCapability {
    super::with_flags("ext4", flags)
}

async fn created_otherwise(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let volume = ground.volume("otherwise", 304, mounted("ext4")).await?;
    let good = || ground.request("main", &volume.name, 304 * MIB, mounted("ext4"));
    let other_class = ground.request("unwiped", &volume.name, 304 * MIB, mounted("ext4"));
    refused(controller.create_volume(other_class).await, AlreadyExists, &["class", "main", "unwiped"])?;
    let mut other_options = good();
    other_options.parameters.insert(String::from("mkfsOptions"), String::from("-m 1"));
    refused(controller.create_volume(other_options).await, AlreadyExists, &["mkfsOptions"])?;
    volume.stage().await?;
    let other = ground.request("main", &volume.name, 304 * MIB, mounted("xfs"));
    refused(controller.create_volume(other).await, AlreadyExists, &["ext4", "xfs"])?;
    volume.remove().await
}

async fn validation(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let volume = ground.volume("validate", 4, mounted("ext4")).await?;
    let request = |capability: v1::VolumeCapability| v1::ValidateVolumeCapabilitiesRequest {
        volume_id: volume.id.clone(),
        volume_capabilities: vec![capability],
        ..v1::ValidateVolumeCapabilitiesRequest::default()
    };
    for good in [mounted("ext4"), mounted(""), with_flags(&["noatime", "ro"])] {
        let answer = answered(controller.validate_volume_capabilities(request(good.clone())).await)?;
        ensure!(answer.confirmed.is_some_and(|confirmed| confirmed.volume_capabilities == [good.clone()]), "{good:?}");
    }
    for (bad, word) in [(mounted("ntfs"), "ntfs"), (with_flags(&["loop"]), "loop")] {
        let answer = answered(controller.validate_volume_capabilities(request(bad)).await)?;
        ensure!(answer.confirmed.is_none() && answer.message.contains(word), "{answer:?}");
    }
    volume.stage().await?;
    let parameters = |key: &str, value: &str| [(String::from(key), String::from(value))].into();
    let unfit = [
        (request(block()), "holds ext4"),
        (request(mounted("xfs")), "holds ext4"),
        (
            v1::ValidateVolumeCapabilitiesRequest {
                parameters: parameters("class", "unwiped"),
                ..request(mounted("ext4"))
            },
            "class",
        ),
        (
            v1::ValidateVolumeCapabilitiesRequest {
                mutable_parameters: parameters("iops", "1"),
                ..request(mounted("ext4"))
            },
            "iops",
        ),
    ];
    for (request, word) in unfit {
        let answer = answered(controller.validate_volume_capabilities(request).await)?;
        ensure!(answer.confirmed.is_none() && answer.message.contains(word), "{answer:?}");
    }
    let unknown =
        v1::ValidateVolumeCapabilitiesRequest { volume_id: String::from("lab-node/none"), ..request(block()) };
    refused(controller.validate_volume_capabilities(unknown).await, NotFound, &["lab-node/none"])?;
    volume.remove().await
}

async fn data_outlives(ground: &Ground) -> Result<()> {
    let volume = ground.volume("outlives", 16, mounted("ext4")).await?;
    let staging = volume.stage().await?;
    file_with(&staging.join("f"), 4 << 20)?;
    let data = digest(&staging.join("f"))?;
    for _ in 0..2 {
        volume.unstage().await?;
        ground.crash().await?;
        volume.stage().await?;
        ensure!(digest(&staging.join("f"))? == data, "the data changed");
    }
    volume.remove().await
}

async fn no_process(ground: &Ground) -> Result<()> {
    let volume = ground.volume("still", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let target = volume.target("user")?;
    // The backup of the metadata is written when the group has rested for a while.
    let mut before = started(&metrics("/metrics")?.1);
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let now = started(&metrics("/metrics")?.1);
        if now == before {
            break;
        }
        before = now;
    }
    for _ in 0..5 {
        volume.publish("user").await?;
        stats(ground, &volume, &target).await?;
        super::capacity_of(ground, "main").await?;
        answered(ground.client().controller.list_volumes(v1::ListVolumesRequest::default()).await)?;
        let health = v1::ControllerListVolumeHealthRequest::default();
        answered(ground.client().controller.controller_list_volume_health(health).await)?;
        volume.unpublish(&target).await?;
    }
    let after = started(&metrics("/metrics")?.1);
    ensure!(before == after, "processes were started: {before} became {after}");
    run(&["sync"])?;
    volume.remove().await
}
