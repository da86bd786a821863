//! Several users of one volume, users that only read, raw block devices, and mount options.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use quarry::csi::v1::volume_capability::access_mode::Mode;
use quarry::csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume};
use tonic::Code::{AlreadyExists, FailedPrecondition};

use crate::client::{block, capability, mounted};
use crate::inside::check::{Ground, answered, comfortable, digest, fill, mount_options_at, refused, run};

use super::with_flags;

cases! {
    "two users of one volume see the same files, and each is taken away alone" => two_users,
    "a single writer's second user is refused and no path is left" => single_writer,
    "a user that only reads gets EROFS while the other one writes" => one_reads,
    "xfs and btrfs: a user that only reads gets EROFS while the other one writes" => one_reads_others,
    "access for reading only is read-only whatever the request's flag says" => reader_only,
    "another kind of publish at the same path is refused" => published_otherwise,
    "a block volume that is published read-only refuses writes, and takes them when published anew" => block_read_only,
    "a block volume that was read-only last can still be deleted" => block_read_only_deleted,
    "a block volume is read-only for all its users or for none" => block_mixed,
    "two users of a block volume see the same blocks" => block_two_users,
    "mount options of class and request are on the mounts" => mount_options,
    "a read-only stage cannot be written through any path" => staged_read_only,
    "a context of SELinux with a comma is one option, and a kernel without SELinux is named as the reason" => context,
    "the class's mkfs options reach mkfs" => mkfs_options,
    "the class's options are for the class's own file system" => options_of_another_file_system,
    "mkfs options that were meant for another file system reach no mkfs" => mkfs_options_meant_for_another,
}

fn is_refused(result: std::io::Result<()>, kind: ErrorKind) -> Result<()> {
    let error = result.err().context("it was written")?;
    ensure!(error.kind() == kind, "{error}");
    Ok(())
}

async fn two_users(ground: &Ground) -> Result<()> {
    let volume = ground.volume("shared", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let (one, other) = (volume.publish("one").await?, volume.publish("other").await?);
    fs::write(one.join("f"), "data")?;
    ensure!(fs::read(other.join("f"))? == b"data");
    volume.unpublish(&one).await?;
    fs::write(other.join("f"), "more")?;
    ensure!(mount_options_at(&other)?.is_some() && fs::read(volume.staging()?.join("f"))? == b"more");
    volume.remove().await
}

async fn single_writer(ground: &Ground) -> Result<()> {
    for access in [mounted("ext4"), block()] {
        let mode = Some(AccessMode { mode: Mode::SingleNodeSingleWriter.into() });
        let volume = ground.volume("single", 4, v1::VolumeCapability { access_mode: mode, ..access }).await?;
        volume.stage().await?;
        let one = volume.publish("one").await?;
        volume.publish("one").await?;
        let other = volume.target("other")?;
        let answer = ground.client().node.node_publish_volume(volume.publish_request(&other)?).await;
        refused(answer, FailedPrecondition, &["single writer", &one.to_string_lossy()])?;
        ensure!(other.symlink_metadata().is_err(), "the second user's path is left");
        volume.unpublish(&one).await?;
        volume.publish("other").await?;
        volume.remove().await?;
    }
    Ok(())
}

async fn one_reads(ground: &Ground) -> Result<()> {
    one_reads_with(ground, "ext4").await
}

async fn one_reads_others(ground: &Ground) -> Result<()> {
    one_reads_with(ground, "xfs").await?;
    one_reads_with(ground, "btrfs").await
}

async fn one_reads_with(ground: &Ground, file_system: &str) -> Result<()> {
    let volume = ground.volume("reads", comfortable(file_system), mounted(file_system)).await?;
    volume.stage().await?;
    let reader = volume.publish_read_only("reader").await?;
    let writer = volume.publish("writer").await?;
    fs::write(writer.join("f"), "data")?;
    ensure!(fs::read(reader.join("f"))? == b"data");
    is_refused(fs::write(reader.join("f"), "x"), ErrorKind::ReadOnlyFilesystem)?;
    is_refused(fs::create_dir(reader.join("d")), ErrorKind::ReadOnlyFilesystem)?;
    is_refused(fs::remove_file(reader.join("f")), ErrorKind::ReadOnlyFilesystem)?;
    fs::write(writer.join("f"), "more")?;
    volume.publish_read_only("reader").await?;
    volume.remove().await
}

async fn reader_only(ground: &Ground) -> Result<()> {
    let volume = ground.volume("reader", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let target = volume.target("reader")?;
    let mode = Some(AccessMode { mode: Mode::SingleNodeReaderOnly.into() });
    let request = v1::NodePublishVolumeRequest {
        volume_capability: Some(v1::VolumeCapability { access_mode: mode, ..mounted("ext4") }),
        readonly: false,
        ..volume.publish_request(&target)?
    };
    answered(ground.client().node.node_publish_volume(request).await)?;
    is_refused(fs::write(target.join("f"), "x"), ErrorKind::ReadOnlyFilesystem)?;
    volume.remove().await
}

async fn published_otherwise(ground: &Ground) -> Result<()> {
    for access in [mounted("ext4"), block()] {
        let volume = ground.volume("otherwise", 4, access).await?;
        volume.stage().await?;
        let target = volume.publish("user").await?;
        let request = v1::NodePublishVolumeRequest { readonly: true, ..volume.publish_request(&target)? };
        refused(ground.client().node.node_publish_volume(request).await, AlreadyExists, &["readonly = false"])?;
        let other = if volume.is_block() { mounted("ext4") } else { block() };
        let request =
            v1::NodePublishVolumeRequest { volume_capability: Some(other), ..volume.publish_request(&target)? };
        refused(ground.client().node.node_publish_volume(request).await, AlreadyExists, &[&target.to_string_lossy()])?;
        volume.remove().await?;
    }
    Ok(())
}

fn overwrite(device: &Path) -> std::io::Result<()> {
    let mut device = OpenOptions::new().write(true).open(device)?;
    device.write_all(&[0xFF; 4096])?;
    device.sync_all()
}

async fn block_read_only(ground: &Ground) -> Result<()> {
    let volume = ground.volume("block", 4, block()).await?;
    volume.stage().await?;
    let target = volume.publish("writer").await?;
    fill(&target)?;
    let data = digest(&target)?;
    volume.unpublish(&target).await?;
    let target = volume.publish_read_only("reader").await?;
    is_refused(overwrite(&target), ErrorKind::PermissionDenied)?;
    // A mount's flag alone would not keep a user from a device node made anew.
    is_refused(overwrite(&volume.device()?), ErrorKind::PermissionDenied)?;
    ensure!(digest(&target)? == data, "it was written");
    volume.unpublish(&target).await?;
    overwrite(&volume.publish("writer").await?)?;
    volume.remove().await
}

async fn block_read_only_deleted(ground: &Ground) -> Result<()> {
    let volume = ground.volume("block", 4, block()).await?;
    volume.stage().await?;
    let target = volume.publish_read_only("reader").await?;
    volume.unpublish(&target).await?;
    volume.delete().await?;
    volume.gone().await?;
    fs::remove_dir_all(volume.folder())?;
    Ok(())
}

async fn block_mixed(ground: &Ground) -> Result<()> {
    let volume = ground.volume("mixed", 4, block()).await?;
    volume.stage().await?;
    let one = volume.publish("writer").await?;
    let other = volume.target("reader")?;
    let request = v1::NodePublishVolumeRequest { readonly: true, ..volume.publish_request(&other)? };
    let words = &["read-only", &*one.to_string_lossy()];
    refused(ground.client().node.node_publish_volume(request).await, FailedPrecondition, words)?;
    ensure!(other.symlink_metadata().is_err(), "the refused path is left");
    overwrite(&one)?;
    volume.remove().await
}

async fn block_two_users(ground: &Ground) -> Result<()> {
    let access = capability(AccessType::Block(BlockVolume {}), Mode::SingleNodeWriter);
    let volume = ground.volume("block", 4, access).await?;
    volume.stage().await?;
    let (one, other) = (volume.publish("one").await?, volume.publish("other").await?);
    fill(&one)?;
    ensure!(digest(&one)? == digest(&other)?);
    volume.unpublish(&one).await?;
    overwrite(&other)?;
    volume.remove().await
}

async fn mount_options(ground: &Ground) -> Result<()> {
    let access = with_flags("ext4", &["nosuid", "data=ordered", "commit=30"]);
    let volume = ground.volume_in("tuned", "main", "options", 4, access).await?;
    let staging = volume.stage().await?;
    let (of_mount, of_file_system) = mount_options_at(&staging)?.context("not staged")?;
    for option in ["noatime", "nodev", "nosuid"] {
        ensure!(of_mount.split(',').any(|other| other == option), "{option} is missing in {of_mount}");
    }
    ensure!(of_file_system.contains("commit=30"), "commit=30 is missing in {of_file_system}");
    let target = volume.publish("user").await?;
    let (of_mount, _) = mount_options_at(&target)?.context("not published")?;
    for option in ["noatime", "nodev", "nosuid"] {
        ensure!(of_mount.split(',').any(|other| other == option), "{option} is missing in {of_mount}");
    }
    volume.stage().await?;
    volume.publish("user").await?;
    volume.remove().await
}

async fn staged_read_only(ground: &Ground) -> Result<()> {
    let volume = ground.volume("read-only", 4, with_flags("ext4", &["ro"])).await?;
    let staging = volume.stage().await?;
    is_refused(fs::write(staging.join("f"), "x"), ErrorKind::ReadOnlyFilesystem)?;
    let target = volume.publish("user").await?;
    is_refused(fs::write(target.join("f"), "x"), ErrorKind::ReadOnlyFilesystem)?;
    // Asked for again in the same words, it is the same.
    volume.stage().await?;
    volume.publish("user").await?;
    volume.remove().await
}

async fn context(ground: &Ground) -> Result<()> {
    let wish = "context=\"system_u:object_r:container_file_t:s0:c1,c2\"";
    let volume = ground.volume("context", 4, with_flags("ext4", &[wish])).await?;
    let answer = ground.client().node.node_stage_volume(volume.stage_request()?).await;
    let status = answer.err().context("a kernel without SELinux took the context")?;
    for word in ["context", "SELinux"] {
        ensure!(status.message().contains(word), "{word} is missing in {:?}: {}", status.code(), status.message());
    }
    ensure!(mount_options_at(&volume.staging()?)?.is_none());
    for bad in ["context=system_u:object_r:t:s0:c1,c2", "context=\"open", "context="] {
        let request = v1::NodeStageVolumeRequest {
            volume_capability: Some(with_flags("ext4", &[bad])),
            ..volume.stage_request()?
        };
        refused(ground.client().node.node_stage_volume(request).await, tonic::Code::InvalidArgument, &["mount_flags"])?;
    }
    volume.remove().await
}

async fn mkfs_options(ground: &Ground) -> Result<()> {
    let volume = ground.volume_in("tuned", "main", "mkfs", 16, mounted("ext4")).await?;
    volume.stage().await?;
    ensure!(superblock(&volume.device()?, "Reserved block count")? == "0");
    volume.remove().await?;
    let mut request = ground.request("tuned", &ground.name("mkfs"), 16 << 20, mounted("ext4"));
    request.parameters.insert(String::from("mkfsOptions"), String::from("-b 1024 -I 512"));
    let volume = ground.volume_from(request, "main").await?;
    volume.stage().await?;
    ensure!(superblock(&volume.device()?, "Block size")? == "1024");
    ensure!(superblock(&volume.device()?, "Inode size")? == "512");
    volume.remove().await
}

async fn options_of_another_file_system(ground: &Ground) -> Result<()> {
    // Those of the class are ext4's.
    let volume = ground.volume_in("tuned", "main", "mkfs", 304, mounted("xfs")).await?;
    let staging = volume.stage().await?;
    ensure!(mount_options_at(&staging)?.is_some_and(|options| options.0.contains("relatime")), "with ext4's noatime");
    volume.remove().await
}

async fn mkfs_options_meant_for_another(ground: &Ground) -> Result<()> {
    let mut request = ground.request("main", &ground.name("mkfs"), 304 << 20, mounted("btrfs"));
    request.parameters.insert(String::from("mkfsOptions"), String::from("-d single"));
    let volume = ground.volume_from(request, "main").await?;
    // To mkfs.ext4 it would be a folder to copy.
    let request = v1::NodeStageVolumeRequest { volume_capability: Some(mounted("ext4")), ..volume.stage_request()? };
    let answer = ground.client().node.node_stage_volume(request).await;
    refused(answer, tonic::Code::FailedPrecondition, &["mkfsOptions", "-d"])?;
    ensure!(volume.tags()?.contains("quarry.fresh"), "it counts as used");
    volume.stage().await?;
    volume.remove().await
}

/// What dumpe2fs says about the file system in the line of that name.
fn superblock(device: &Path, name: &str) -> Result<String> {
    let shown = run(&["dumpe2fs", "-h", &device.to_string_lossy()])?;
    let mut lines = shown.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(other, _)| *other == name).with_context(|| format!("no {name} in {shown}"))?;
    Ok(value.trim().to_owned())
}
