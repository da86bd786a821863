//! Growth: of file systems, mounted or not, and of raw block volumes.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use quarry::csi::v1;
use tonic::Code::{FailedPrecondition, NotFound, OutOfRange};

use crate::client::{block, mounted};
use crate::inside::check::{
    Ground, MIB, answered, bytes_of_file_system, comfortable, digest, digest_of_first, file_with, fill, lvm, refused,
    run,
};

use super::{capacity_of, with_flags};

cases! {
    "ext4 grows while it is written" => ext4_mounted,
    "xfs grows while it is written" => xfs_mounted,
    "btrfs grows while it is written" => btrfs_mounted,
    "ext4 that grew unmounted is larger when it is staged" => ext4_unmounted,
    "xfs that grew unmounted is larger when it is staged" => xfs_unmounted,
    "btrfs that grew unmounted is larger when it is staged" => btrfs_unmounted,
    "a volume that grew before its first stage has a file system of its whole size" => before_the_first_stage,
    "a block volume grows under its users with its data" => block_grows,
    "an xfs that grew several times is mounted after a power cut" => xfs_cut_off,
    "growth on the node alone grows the volume, too" => by_the_node,
    "growth beyond the room is refused and nothing grows" => no_room,
    "a file system that is mounted read-only is not grown, and grows at the next writable stage" => read_only,
    "growth at a path where the volume is not is refused" => wrong_path,
}

async fn ext4_mounted(ground: &Ground) -> Result<()> {
    grows_while_written(ground, "ext4").await
}

async fn xfs_mounted(ground: &Ground) -> Result<()> {
    grows_while_written(ground, "xfs").await
}

async fn btrfs_mounted(ground: &Ground) -> Result<()> {
    grows_while_written(ground, "btrfs").await
}

async fn grows_while_written(ground: &Ground, file_system: &str) -> Result<()> {
    let mib = comfortable(file_system);
    let volume = ground.volume("grows", mib, mounted(file_system)).await?;
    volume.stage().await?;
    let target = volume.publish("user").await?;
    file_with(&target.join("before"), 2 << 20)?;
    let before = (digest(&target.join("before"))?, bytes_of_file_system(&target)?);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, file) = (Arc::clone(&stop), target.join("during"));
        move || write_until(&stop, &file)
    });
    let grown = volume.grow((mib + 64) * MIB).await;
    let on_the_node = match &grown {
        Ok(_) => volume.grow_at(&target).await,
        Err(_) => Ok(0),
    };
    stop.store(true, Ordering::SeqCst);
    let written = writer.join().map_err(|_| anyhow!("the writer panicked"))?.context("writing meanwhile")?;
    let grown = grown?;
    ensure!(grown.node_expansion_required && grown.capacity_bytes == (mib + 64) * MIB, "{grown:?}");
    ensure!(on_the_node? == (mib + 64) * MIB);
    let after = bytes_of_file_system(&target)?;
    ensure!(after >= before.1 + 48 * MIB, "the file system had {} bytes and has {after}", before.1);
    ensure!(digest(&target.join("before"))? == before.0, "the data changed");
    ensure!(fs::metadata(target.join("during"))?.len() == written, "what was written meanwhile is not there");
    volume.remove().await
}

/// Linux cannot recover one that grew twice since its log was written out.
async fn xfs_cut_off(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 1_000)?;
    let mut mib = comfortable("xfs");
    let volume = ground.volume_in("own", "own", "grows", mib, mounted("xfs")).await?;
    volume.stage().await?;
    let target = volume.publish("user").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|number| {
            let (stop, folder) = (Arc::clone(&stop), target.clone());
            std::thread::spawn(move || write_files_until(&stop, &folder, number))
        })
        .collect();
    for _ in 0..4 {
        mib += 8;
        volume.grow(mib * MIB).await?;
        volume.grow_at(&target).await?;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.join().map_err(|_| anyhow!("a writer panicked"))??;
    }
    // Nobody writes any more, so this is what a power cut would leave.
    let (from, copy) = (format!("if={}", volume.device()?.display()), "/dev/own/copy");
    lvm(&["lvcreate", "-qq", "-y", "-Wn", "-L", &format!("{mib}m"), "-n", "copy", "own"])?;
    run(&["dd", &from, &format!("of={copy}"), "bs=1M", "iflag=direct", "oflag=direct", "status=none"])?;
    let folder = ground.folder("copy")?;
    run(&["mount", "-o", "nouuid", copy, &folder.to_string_lossy()])?;
    run(&["umount", &folder.to_string_lossy()])?;
    fs::remove_dir(&folder)?;
    lvm(&["lvremove", "-qq", "-y", "own/copy"])?;
    volume.remove().await?;
    group.remove()
}

/// Makes small files until told to stop.
fn write_files_until(stop: &AtomicBool, folder: &Path, writer: usize) -> Result<()> {
    for number in 0_usize.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let folder = folder.join(format!("{writer}-{}", number / 40));
        fs::create_dir_all(&folder)?;
        let mut file = fs::File::create(folder.join(number.to_string()))?;
        file.write_all(&[b'x'; 7_000])?;
        file.sync_data()?;
    }
    Ok(())
}

/// Appends lines until told to stop; how many bytes there are.
fn write_until(stop: &AtomicBool, file: &Path) -> Result<u64> {
    let mut file = fs::File::create(file)?;
    let mut written = 0;
    while !stop.load(Ordering::SeqCst) && written < 2 << 20 {
        file.write_all(&[b'x'; 512])?;
        file.sync_data()?;
        written += 512;
    }
    Ok(written)
}

async fn ext4_unmounted(ground: &Ground) -> Result<()> {
    grows_unmounted(ground, "ext4").await
}

async fn xfs_unmounted(ground: &Ground) -> Result<()> {
    grows_unmounted(ground, "xfs").await
}

async fn btrfs_unmounted(ground: &Ground) -> Result<()> {
    grows_unmounted(ground, "btrfs").await
}

async fn grows_unmounted(ground: &Ground, file_system: &str) -> Result<()> {
    let mib = comfortable(file_system);
    let volume = ground.volume("grows", mib, mounted(file_system)).await?;
    let staging = volume.stage().await?;
    file_with(&staging.join("f"), 2 << 20)?;
    let (data, before) = (digest(&staging.join("f"))?, bytes_of_file_system(&staging)?);
    volume.unstage().await?;
    volume.grow((mib + 64) * MIB).await?;
    volume.stage().await?;
    let after = bytes_of_file_system(&staging)?;
    ensure!(after >= before + 48 * MIB, "the file system had {before} bytes and has {after}");
    ensure!(digest(&staging.join("f"))? == data, "the data changed");
    volume.remove().await
}

async fn before_the_first_stage(ground: &Ground) -> Result<()> {
    let volume = ground.volume("grows", 8, mounted("ext4")).await?;
    volume.grow(64 * MIB).await?;
    let staging = volume.stage().await?;
    ensure!(bytes_of_file_system(&staging)? > 40 * MIB, "it has {} bytes", bytes_of_file_system(&staging)?);
    volume.remove().await
}

async fn block_grows(ground: &Ground) -> Result<()> {
    let volume = ground.volume("grows", 4, block()).await?;
    volume.stage().await?;
    let (one, other) = (volume.publish("one").await?, volume.publish("other").await?);
    fill(&one)?;
    let data = digest(&one)?;
    let grown = volume.grow(12 * MIB).await?;
    ensure!(!grown.node_expansion_required, "{grown:?}");
    for path in [&one, &other] {
        let size: i64 = crate::inside::check::run(&["blockdev", "--getsize64", &path.to_string_lossy()])?.parse()?;
        ensure!(size == 12 * MIB, "it has {size} bytes at {}", path.display());
        ensure!(digest_of_first(path, 4 << 20)? == data, "the data changed");
    }
    volume.remove().await
}

async fn by_the_node(ground: &Ground) -> Result<()> {
    let volume = ground.volume("grows", 8, mounted("ext4")).await?;
    let staging = volume.stage().await?;
    let before = bytes_of_file_system(&staging)?;
    let request = v1::NodeExpandVolumeRequest {
        volume_id: volume.id.clone(),
        volume_path: staging.to_string_lossy().into_owned(),
        capacity_range: Some(v1::CapacityRange { required_bytes: 40 * MIB, limit_bytes: 0 }),
        ..v1::NodeExpandVolumeRequest::default()
    };
    let answer = answered(ground.client().node.node_expand_volume(request).await)?;
    ensure!(answer.capacity_bytes == 40 * MIB && volume.size().await? == 40 * MIB, "{answer:?}");
    ensure!(bytes_of_file_system(&staging)? > before + 16 * MIB, "the file system did not grow");
    volume.remove().await
}

async fn no_room(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 40)?;
    // 25 % of the group's 9 extents are 3: two of the other six are taken by the volume.
    let volume = ground.volume_in("share-reserved", "own", "grows", 8, block()).await?;
    let (_, largest) = capacity_of(ground, "share-reserved").await?;
    let most = 8 * MIB + largest;
    let grow = |bytes: i64| v1::ControllerExpandVolumeRequest {
        volume_id: volume.id.clone(),
        capacity_range: Some(v1::CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..v1::ControllerExpandVolumeRequest::default()
    };
    let answer = ground.client().controller.controller_expand_volume(grow(most + 1)).await;
    refused(answer, OutOfRange, &["own", &most.to_string(), "reserve 25%"])?;
    ensure!(volume.size().await? == 8 * MIB, "it grew");
    answered(ground.client().controller.controller_expand_volume(grow(most)).await)?;
    ensure!(volume.size().await? == most);
    volume.remove().await?;
    group.remove()
}

async fn read_only(ground: &Ground) -> Result<()> {
    let volume = ground.volume("grows", 8, mounted("ext4")).await?;
    let staging = volume.stage().await?;
    let before = bytes_of_file_system(&staging)?;
    volume.unstage().await?;
    let stage =
        v1::NodeStageVolumeRequest { volume_capability: Some(with_flags("ext4", &["ro"])), ..volume.stage_request()? };
    answered(ground.client().node.node_stage_volume(stage).await)?;
    volume.grow(40 * MIB).await?;
    let request = v1::NodeExpandVolumeRequest {
        volume_id: volume.id.clone(),
        volume_path: staging.to_string_lossy().into_owned(),
        ..v1::NodeExpandVolumeRequest::default()
    };
    refused(ground.client().node.node_expand_volume(request).await, FailedPrecondition, &["read-only"])?;
    volume.unstage().await?;
    volume.stage().await?;
    ensure!(bytes_of_file_system(&staging)? > before + 16 * MIB, "it did not grow at the writable stage");
    volume.remove().await
}

async fn wrong_path(ground: &Ground) -> Result<()> {
    let volume = ground.volume("grows", 8, mounted("ext4")).await?;
    let other = ground.volume("grows", 8, mounted("ext4")).await?;
    volume.stage().await?;
    let elsewhere = other.stage().await?;
    for path in [elsewhere, volume.folder(), volume.folder().join("missing")] {
        let request = v1::NodeExpandVolumeRequest {
            volume_id: volume.id.clone(),
            volume_path: path.to_string_lossy().into_owned(),
            ..v1::NodeExpandVolumeRequest::default()
        };
        refused(ground.client().node.node_expand_volume(request).await, NotFound, &[&path.to_string_lossy()])?;
        let request = v1::NodeGetVolumeStatsRequest {
            volume_id: volume.id.clone(),
            volume_path: path.to_string_lossy().into_owned(),
            ..v1::NodeGetVolumeStatsRequest::default()
        };
        refused(ground.client().node.node_get_volume_stats(request).await, NotFound, &[&path.to_string_lossy()])?;
    }
    other.remove().await?;
    volume.remove().await
}
