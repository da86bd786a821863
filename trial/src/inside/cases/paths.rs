//! Paths that volumes are staged and published at.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use quarry::csi::v1;
use tonic::Code::{FailedPrecondition, InvalidArgument};

use crate::client::mounted;
use crate::inside::check::{Ground, Volume, answered, mount_options_at, refused};

cases! {
    "paths that are relative, contain `..`, are the root or too long are refused by every call" => not_plain,
    "spaces, line ends, tabs, backslashes and emoji in a path are only characters" => strange_characters,
    "a path of 4,095 bytes works for publish and unpublish" => longest,
    "doubled and closing slashes do not make two paths of one" => slashes,
    "a path through a symbolic link is the path that it leads to" => link_in_a_parent,
    "a path that is itself a symbolic link is refused, and what it leads to stays" => link_at_the_end,
}

async fn not_plain(ground: &Ground) -> Result<()> {
    let mut node = ground.client().node;
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let target = volume.target("user")?;
    let long = format!("/{}", "a".repeat(4095));
    for (path, word) in [
        ("some/path", "relative"),
        ("./path", "relative"),
        ("/srv/check/../check/x", "`..`"),
        ("/..", "`..`"),
        ("/", "root"),
        ("///", "root"),
        ("/srv/a\0b", "NUL"),
        (long.as_str(), "4095"),
    ] {
        let words = |field| [field, word];
        let request = v1::NodeStageVolumeRequest { staging_target_path: path.to_owned(), ..volume.stage_request()? };
        refused(node.node_stage_volume(request).await, InvalidArgument, &words("staging_target_path"))?;
        let request = v1::NodePublishVolumeRequest { target_path: path.to_owned(), ..volume.publish_request(&target)? };
        refused(node.node_publish_volume(request).await, InvalidArgument, &words("target_path"))?;
        let request =
            v1::NodePublishVolumeRequest { staging_target_path: path.to_owned(), ..volume.publish_request(&target)? };
        refused(node.node_publish_volume(request).await, InvalidArgument, &words("staging_target_path"))?;
        let request = v1::NodeUnpublishVolumeRequest { volume_id: volume.id.clone(), target_path: path.to_owned() };
        refused(node.node_unpublish_volume(request).await, InvalidArgument, &words("target_path"))?;
        let request =
            v1::NodeUnstageVolumeRequest { volume_id: volume.id.clone(), staging_target_path: path.to_owned() };
        refused(node.node_unstage_volume(request).await, InvalidArgument, &words("staging_target_path"))?;
    }
    volume.remove().await
}

/// Publishes at the path, writes through it, and takes it away again.
async fn works_at(volume: &Volume<'_>, ground: &Ground, path: &Path) -> Result<()> {
    answered(ground.client().node.node_publish_volume(volume.publish_request(path)?).await)?;
    fs::write(path.join("f"), "data")?;
    ensure!(fs::read(volume.staging()?.join("f"))? == b"data", "{} shows something else", path.display());
    answered(ground.client().node.node_publish_volume(volume.publish_request(path)?).await)?;
    volume.unpublish(path).await?;
    ensure!(path.symlink_metadata().is_err(), "{} is still there", path.display());
    Ok(())
}

async fn strange_characters(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    let folder = ground.folder("a b\nc\td\\e🦀 \\040")?;
    let staging = folder.join("s\n \\134");
    fs::create_dir(&staging)?;
    let at = |path: &Path| path.to_string_lossy().into_owned();
    let stage = || {
        volume
            .stage_request()
            .map(|request| v1::NodeStageVolumeRequest { staging_target_path: at(&staging), ..request })
    };
    answered(ground.client().node.node_stage_volume(stage()?).await)?;
    answered(ground.client().node.node_stage_volume(stage()?).await)?;
    let target = folder.join(" t\n\\");
    let publish =
        v1::NodePublishVolumeRequest { staging_target_path: at(&staging), ..volume.publish_request(&target)? };
    answered(ground.client().node.node_publish_volume(publish).await)?;
    fs::write(target.join("f"), "data")?;
    volume.unpublish(&target).await?;
    let unstage = v1::NodeUnstageVolumeRequest { volume_id: volume.id.clone(), staging_target_path: at(&staging) };
    answered(ground.client().node.node_unstage_volume(unstage).await)?;
    ensure!(fs::read_dir(&staging)?.next().is_none(), "it is still staged");
    fs::remove_dir_all(folder)?;
    volume.remove().await
}

async fn longest(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let folder = ground.folder("long")?;
    let mut path = folder.clone();
    while path.as_os_str().len() < 4095 - 256 {
        path.push("d".repeat(200));
    }
    fs::create_dir_all(&path)?;
    let path = path.join("t".repeat(4095 - path.as_os_str().len() - 1));
    ensure!(path.as_os_str().len() == 4095);
    // No file below it has a path that the kernel takes, so the mount table must tell.
    for _ in 0..2 {
        answered(ground.client().node.node_publish_volume(volume.publish_request(&path)?).await)?;
        ensure!(mount_options_at(&path)?.is_some(), "it is not mounted");
    }
    volume.unpublish(&path).await?;
    ensure!(path.symlink_metadata().is_err(), "it is still there");
    fs::remove_dir_all(folder)?;
    volume.remove().await
}

async fn slashes(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let target = volume.target("user")?;
    let doubled = PathBuf::from(format!("{}//./volume/", target.parent().unwrap_or(&target).display()));
    answered(ground.client().node.node_publish_volume(volume.publish_request(&doubled)?).await)?;
    answered(ground.client().node.node_publish_volume(volume.publish_request(&target)?).await)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(mounts.matches(&*target.to_string_lossy()).count() == 1, "it is mounted more than once");
    volume.unpublish(&doubled).await?;
    ensure!(target.symlink_metadata().is_err());
    volume.remove().await
}

async fn link_in_a_parent(ground: &Ground) -> Result<()> {
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let folder = ground.folder("link")?;
    fs::create_dir(folder.join("real"))?;
    symlink("real", folder.join("link"))?;
    works_at(&volume, ground, &folder.join("link/target")).await?;
    // Made by one spelling, taken away by the other.
    let (link, real) = (folder.join("link/target"), folder.join("real/target"));
    answered(ground.client().node.node_publish_volume(volume.publish_request(&link)?).await)?;
    answered(ground.client().node.node_publish_volume(volume.publish_request(&real)?).await)?;
    volume.unpublish(&real).await?;
    volume.unpublish(&link).await?;
    ensure!(fs::read_dir(folder.join("real"))?.next().is_none());
    fs::remove_dir_all(folder)?;
    volume.remove().await
}

async fn link_at_the_end(ground: &Ground) -> Result<()> {
    let mut node = ground.client().node;
    let volume = ground.volume("paths", 4, mounted("ext4")).await?;
    let folder = ground.folder("link")?;
    fs::create_dir(folder.join("precious"))?;
    let link = folder.join("link");
    symlink("precious", &link)?;
    let at_link = || link.to_string_lossy().into_owned();
    let stage = v1::NodeStageVolumeRequest { staging_target_path: at_link(), ..volume.stage_request()? };
    refused(node.node_stage_volume(stage).await, InvalidArgument, &["staging_target_path", "link"])?;
    volume.stage().await?;
    let publish = volume.publish_request(&link)?;
    refused(node.node_publish_volume(publish).await, InvalidArgument, &["target_path", "symbolic link"])?;
    let unpublish = v1::NodeUnpublishVolumeRequest { volume_id: volume.id.clone(), target_path: at_link() };
    refused(node.node_unpublish_volume(unpublish).await, FailedPrecondition, &["left alone"])?;
    ensure!(fs::read_link(&link)? == Path::new("precious") && folder.join("precious").is_dir());
    fs::remove_dir_all(folder)?;
    volume.remove().await
}
