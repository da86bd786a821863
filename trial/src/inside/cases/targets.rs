//! What lies already where a volume is to be staged or published: never taken away unless it is ours and empty.

use std::fs;

use anyhow::{Result, ensure};
use quarry::csi::v1;
use tonic::Code::{AlreadyExists, FailedPrecondition, InvalidArgument};

use crate::client::{block, mounted};
use crate::inside::check::{Ground, lvm, mount_options_at, refused, run};

cases! {
    "a file where a folder is needed is refused and stays" => file_for_a_folder,
    "a folder where a file is needed is refused and stays" => folder_for_a_file,
    "a pipe at the target is refused and stays" => pipe_at_the_target,
    "a target whose parent is missing is refused and nothing is made" => missing_parent,
    "a staging path that is missing is refused and not made" => missing_staging_path,
    "a target with foreign data below it is refused by publish and by unpublish, and the data stays" => foreign_data,
    "data below the staging path comes to light again after unstage" => data_below_the_staging_path,
    "a foreign mount at a path is refused and stays" => foreign_mount,
    "a target that shows another volume is refused and stays" => other_volume_at_the_target,
    "a mount is not taken away under an id that is of no volume or of an inactive one" => other_ids_at_the_target,
    "a block volume whose device is gone can still be taken away from its target" => device_is_gone,
    "unpublish and unstage of what is not there are fine" => nothing_there,
}

async fn file_for_a_folder(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    let staging = volume.staging()?;
    fs::remove_dir(&staging)?;
    fs::write(&staging, "precious")?;
    let stage = crate::client::stage(&volume.id, &staging, mounted("ext4"));
    refused(ground.client().node.node_stage_volume(stage).await, InvalidArgument, &["not a folder"])?;
    ensure!(fs::read(&staging)? == b"precious");
    fs::remove_file(&staging)?;
    volume.stage().await?;
    let target = volume.target("user")?;
    for content in ["", "precious"] {
        fs::write(&target, content)?;
        let publish = volume.publish_request(&target)?;
        refused(
            ground.client().node.node_publish_volume(publish).await,
            InvalidArgument,
            &["where a folder is needed"],
        )?;
        ensure!(fs::read_to_string(&target)? == content);
    }
    fs::remove_file(&target)?;
    volume.remove().await
}

async fn folder_for_a_file(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, block()).await?;
    volume.stage().await?;
    let target = volume.target("user")?;
    fs::create_dir(&target)?;
    let publish = || volume.publish_request(&target);
    refused(ground.client().node.node_publish_volume(publish()?).await, InvalidArgument, &["where a file is needed"])?;
    ensure!(target.is_dir());
    fs::remove_dir(&target)?;
    fs::write(&target, "precious")?;
    refused(ground.client().node.node_publish_volume(publish()?).await, FailedPrecondition, &["left alone"])?;
    ensure!(fs::read(&target)? == b"precious");
    fs::remove_file(&target)?;
    volume.remove().await
}

async fn pipe_at_the_target(ground: &Ground) -> Result<()> {
    for capability in [block(), mounted("ext4")] {
        let volume = ground.volume("paths", 4, capability).await?;
        volume.stage().await?;
        let target = volume.target("user")?;
        run(&["mkfifo", &target.to_string_lossy()])?;
        let publish = volume.publish_request(&target)?;
        refused(ground.client().node.node_publish_volume(publish).await, InvalidArgument, &["target_path"])?;
        ensure!(target.symlink_metadata().is_ok(), "the pipe is gone");
        fs::remove_file(&target)?;
        volume.remove().await?;
    }
    Ok(())
}

async fn missing_parent(ground: &Ground) -> Result<()> {
    for capability in [block(), mounted("ext4")] {
        let volume = ground.volume("paths", 4, capability).await?;
        volume.stage().await?;
        let target = volume.folder().join("not/there");
        let publish = volume.publish_request(&target)?;
        refused(ground.client().node.node_publish_volume(publish).await, InvalidArgument, &["target_path", "parent"])?;
        ensure!(!volume.folder().join("not").is_dir(), "it made the parent");
        volume.remove().await?;
    }
    Ok(())
}

async fn missing_staging_path(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    let missing = volume.folder().join("missing");
    let stage = crate::client::stage(&volume.id, &missing, mounted("ext4"));
    refused(ground.client().node.node_stage_volume(stage).await, InvalidArgument, &["staging_target_path", "missing"])?;
    ensure!(!missing.is_dir() && volume.tags()?.contains("quarry.fresh"), "something was done");
    volume.remove().await
}

async fn foreign_data(ground: &Ground) -> Result<()> {
    let mut node = ground.client().node;
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let target = volume.target("user")?;
    fs::create_dir_all(target.join("below"))?;
    fs::write(target.join("below/precious"), "data")?;
    refused(node.node_publish_volume(volume.publish_request(&target)?).await, FailedPrecondition, &["left alone"])?;
    let unpublish = v1::NodeUnpublishVolumeRequest {
        volume_id: volume.id.clone(),
        target_path: target.to_string_lossy().into_owned(),
    };
    refused(node.node_unpublish_volume(unpublish.clone()).await, FailedPrecondition, &["left alone"])?;
    ensure!(fs::read(target.join("below/precious"))? == b"data");
    // The same below a mount: it comes to light when the volume is taken away.
    fs::rename(&target, target.with_file_name("aside"))?;
    volume.publish("user").await?;
    run(&["umount", &target.to_string_lossy()])?;
    fs::remove_dir(&target)?;
    fs::rename(target.with_file_name("aside"), &target)?;
    refused(node.node_unpublish_volume(unpublish).await, FailedPrecondition, &["left alone"])?;
    ensure!(fs::read(target.join("below/precious"))? == b"data");
    fs::remove_dir_all(&target)?;
    volume.remove().await
}

async fn data_below_the_staging_path(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    let precious = volume.staging()?.join("precious");
    fs::write(&precious, "data")?;
    volume.stage().await?;
    ensure!(!precious.is_file(), "the volume is not mounted over it");
    volume.unstage().await?;
    ensure!(fs::read(&precious)? == b"data");
    fs::remove_file(precious)?;
    volume.remove().await
}

async fn foreign_mount(ground: &Ground) -> Result<()> {
    let mut node = ground.client().node;
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    let staging = volume.staging()?;
    let at = staging.to_string_lossy().into_owned();
    run(&["mount", "-t", "tmpfs", "foreign", &at])?;
    refused(node.node_stage_volume(volume.stage_request()?).await, FailedPrecondition, &["foreign", &at])?;
    let unstage = v1::NodeUnstageVolumeRequest { volume_id: volume.id.clone(), staging_target_path: at.clone() };
    refused(node.node_unstage_volume(unstage).await, FailedPrecondition, &["foreign", "left alone"])?;
    ensure!(mount_options_at(&staging)?.is_some(), "the foreign mount is gone");
    run(&["umount", &at])?;
    volume.stage().await?;
    let target = volume.target("user")?;
    fs::create_dir(&target)?;
    let at = target.to_string_lossy().into_owned();
    run(&["mount", "-t", "tmpfs", "foreign", &at])?;
    refused(node.node_publish_volume(volume.publish_request(&target)?).await, AlreadyExists, &["foreign", &at])?;
    let unpublish = v1::NodeUnpublishVolumeRequest { volume_id: volume.id.clone(), target_path: at.clone() };
    refused(node.node_unpublish_volume(unpublish).await, FailedPrecondition, &["foreign", "left alone"])?;
    ensure!(mount_options_at(&target)?.is_some(), "the foreign mount is gone");
    run(&["umount", &at])?;
    volume.remove().await
}

async fn other_volume_at_the_target(ground: &Ground) -> Result<()> {
    let mut node = ground.client().node;
    let (one, other) =
        (ground.volume("paths", 4, mounted("ext4")).await?, ground.volume("paths", 4, mounted("ext4")).await?);
    one.stage().await?;
    other.stage().await?;
    let target = one.publish("user").await?;
    fs::write(target.join("precious"), "data")?;
    refused(node.node_publish_volume(other.publish_request(&target)?).await, AlreadyExists, &["not volume"])?;
    let unpublish = v1::NodeUnpublishVolumeRequest {
        volume_id: other.id.clone(),
        target_path: target.to_string_lossy().into_owned(),
    };
    refused(node.node_unpublish_volume(unpublish).await, FailedPrecondition, &["left alone"])?;
    let stage = crate::client::stage(&other.id, &one.staging()?, mounted("ext4"));
    refused(node.node_stage_volume(stage).await, FailedPrecondition, &["not volume"])?;
    ensure!(fs::read(target.join("precious"))? == b"data");
    other.remove().await?;
    one.remove().await
}

async fn other_ids_at_the_target(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    let inactive = ground.volume("inactive", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let target = volume.publish("user").await?;
    fs::write(target.join("precious"), "data")?;
    lvm(&["lvcreate", "-qq", "-y", "-L", "8M", "-n", "home", "main"])?;
    run(&["mkfs.ext4", "-q", "/dev/main/home"])?;
    let home = ground.folder("home")?;
    run(&["mount", "/dev/main/home", &home.to_string_lossy()])?;
    let node_of = |id: &str| format!("lab-node/{id}");
    let ids = [
        String::from("garbage"),
        String::from("home"),
        node_of("home"),
        node_of("never-made"),
        format!("other-node/{}", volume.logical_name()),
        inactive.id.clone(),
    ];
    for volume_id in &ids {
        for path in [&target, &home] {
            let request = v1::NodeUnpublishVolumeRequest {
                volume_id: volume_id.clone(),
                target_path: path.to_string_lossy().into_owned(),
            };
            let answer = ground.client().node.node_unpublish_volume(request).await;
            refused(answer, FailedPrecondition, &["left alone"])?;
            ensure!(mount_options_at(path)?.is_some(), "{volume_id:?} took away {}", path.display());
        }
    }
    run(&["umount", &home.to_string_lossy()])?;
    fs::remove_dir(home)?;
    lvm(&["lvremove", "-qq", "-y", "main/home"])?;
    ensure!(fs::read(target.join("precious"))? == b"data");
    inactive.remove().await?;
    volume.remove().await
}

async fn device_is_gone(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, block()).await?;
    volume.stage().await?;
    let target = volume.publish("user").await?;
    volume.deactivate()?;
    volume.unpublish(&target).await?;
    ensure!(target.symlink_metadata().is_err(), "the target is still there");
    volume.stage().await?;
    volume.publish("user").await?;
    volume.remove().await
}

async fn nothing_there(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    volume.unstage().await?;
    volume.unpublish(&volume.folder().join("no/such/path")).await?;
    volume.unpublish(&volume.target("user")?).await?;
    let file = volume.folder().join("file");
    fs::write(&file, "x")?;
    volume.unpublish(&file.join("below a file")).await?;
    fs::remove_file(file)?;
    volume.remove().await
}
