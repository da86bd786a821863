//! Deletion: nothing of a volume is readable in the next one, and until it is gone its name is taken.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::{Aborted, FailedPrecondition, NotFound};

use crate::client::{block, mounted};
use crate::inside::check::{Ground, MIB, Volume, are_zero, digest, eventually, fill, lvm, refused, run};

use super::capacity_of;

cases! {
    "the blocks of a deleted block volume are unreadable in the next one" => blocks_unreadable,
    "the blocks of a deleted file system are unreadable in the next volume" => files_unreadable,
    "of a class that discards the blocks are unreadable in the next volume, too" => discarded_unreadable,
    "a class that wipes nothing lets its volumes go at once" => unwiped,
    "a volume whose class is gone is wiped all the same" => class_is_gone,
    "while it is wiped a volume is gone for every call, and its name is taken" => while_wiping,
    "space counts as free only when it is wiped" => space_while_wiping,
    "a volume that was grown and never staged is wiped as well" => never_staged,
    "a deleted volume that somebody opens stays until it is closed" => opened_meanwhile,
    "a volume with an administrator's snapshot is neither deleted nor wiped nor removed, until that is gone" => snapshot,
    "many volumes deleted at once all go" => many,
}

/// Makes a block volume that takes the whole group; its path.
async fn whole_group<'g>(ground: &'g Ground, purpose: &str) -> Result<(Volume<'g>, std::path::PathBuf)> {
    let (_, largest) = capacity_of(ground, "own").await?;
    let volume = ground.volume_in("own", "own", purpose, largest / MIB, block()).await?;
    volume.stage().await?;
    let target = volume.publish("user").await?;
    Ok((volume, target))
}

async fn blocks_unreadable(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 40)?;
    let (first, target) = whole_group(ground, "first").await?;
    fill(&target)?;
    ensure!(!are_zero(&target)?);
    first.remove().await?;
    let (second, target) = whole_group(ground, "second").await?;
    ensure!(are_zero(&target)?, "the last tenant's data can be read");
    second.remove().await?;
    group.remove()
}

async fn files_unreadable(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 40)?;
    let (_, largest) = capacity_of(ground, "own").await?;
    let first = ground.volume_in("own", "own", "first", largest / MIB, mounted("ext4")).await?;
    first.stage().await?;
    let target = first.publish("user").await?;
    crate::inside::check::file_with(&target.join("f"), 8 << 20)?;
    first.remove().await?;
    let (second, target) = whole_group(ground, "second").await?;
    ensure!(are_zero(&target)?, "the last tenant's files can be read");
    second.remove().await?;
    group.remove()
}

async fn discarded_unreadable(ground: &Ground) -> Result<()> {
    let first = ground.volume_in("discarded", "main", "first", 8, block()).await?;
    first.stage().await?;
    fill(&first.publish("user").await?)?;
    let place = lvm(&["lvs", "--noheadings", "-o", "seg_pe_ranges", &first.full_name()])?;
    first.remove().await?;
    let second = ground.volume("second", 8, block()).await?;
    let other = lvm(&["lvs", "--noheadings", "-o", "seg_pe_ranges", &second.full_name()])?;
    ensure!(place == other, "the second volume lies at {other}, not at {place}, so nothing can be told");
    second.stage().await?;
    ensure!(are_zero(&second.publish("user").await?)?, "the last tenant's data can be read");
    second.remove().await
}

async fn unwiped(ground: &Ground) -> Result<()> {
    let volume = ground.volume_in("unwiped", "main", "unwiped", 512, block()).await?;
    volume.delete().await?;
    volume.gone().await?;
    ensure!(!ground.log()?.contains(&format!("could not wipe volume=\"{}\"", volume.full_name())));
    Ok(())
}

async fn class_is_gone(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 40)?;
    let (first, target) = whole_group(ground, "first").await?;
    fill(&target)?;
    first.unpublish(&target).await?;
    first.unstage().await?;
    ground.write_classes("classes:\n- {name: main, volumeGroups: [main]}\n")?;
    eventually("the class is gone", || async { Ok(capacity_of(ground, "own").await? == (0, 0)) }).await?;
    first.remove().await?;
    ground.write_classes(Ground::classes())?;
    eventually("the class is back", || async { Ok(capacity_of(ground, "own").await?.1 > 0) }).await?;
    let (second, target) = whole_group(ground, "second").await?;
    ensure!(are_zero(&target)?, "the last tenant's data can be read");
    second.remove().await?;
    group.remove()
}

async fn while_wiping(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 80)?;
    let volume = ground.volume_in("own", "own", "wiped", 64, block()).await?;
    group.slice()?.slow_down(100)?;
    volume.delete().await?;
    let mut client = ground.client();
    let request = || ground.request("own", &volume.name, 64 * MIB, block());
    refused(client.controller.create_volume(request()).await, Aborted, &["being wiped"])?;
    let get = v1::ControllerGetVolumeRequest { volume_id: volume.id.clone() };
    refused(client.controller.controller_get_volume(get).await, NotFound, &[&volume.id])?;
    refused(client.node.node_stage_volume(volume.stage_request()?).await, NotFound, &[&volume.id])?;
    let target = volume.target("user")?;
    refused(client.node.node_publish_volume(volume.publish_request(&target)?).await, NotFound, &[&volume.id])?;
    let grow = v1::ControllerExpandVolumeRequest {
        volume_id: volume.id.clone(),
        capacity_range: Some(v1::CapacityRange { required_bytes: 72 * MIB, limit_bytes: 0 }),
        ..v1::ControllerExpandVolumeRequest::default()
    };
    refused(client.controller.controller_expand_volume(grow).await, NotFound, &[&volume.id])?;
    volume.delete().await?;
    volume.unstage().await?;
    refused(client.controller.create_volume(request()).await, Aborted, &["being wiped"])?;
    group.slice()?.repair()?;
    volume.gone().await?;
    std::fs::remove_dir_all(volume.folder())?;
    let again = ground.volume_from(request(), "own").await.context("under the same name")?;
    again.remove().await?;
    group.remove()
}

async fn space_while_wiping(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 80)?;
    let volume = ground.volume_in("own", "own", "space", 48, block()).await?;
    let (available, _) = capacity_of(ground, "own").await?;
    group.slice()?.slow_down(100)?;
    volume.delete().await?;
    ensure!(capacity_of(ground, "own").await?.0 == available, "it counts as free before it is wiped");
    group.slice()?.repair()?;
    volume.gone().await?;
    ensure!(capacity_of(ground, "own").await?.0 == available + 48 * MIB);
    group.remove()
}

async fn never_staged(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 40)?;
    let volume = ground.volume_in("own", "own", "raw", 8, block()).await?;
    volume.grow(32 * MIB).await?;
    fill(&volume.activate()?)?;
    volume.delete().await?;
    volume.gone().await?;
    let (second, target) = whole_group(ground, "second").await?;
    ensure!(are_zero(&target)?, "the last tenant's data can be read");
    second.remove().await?;
    group.remove()
}

async fn opened_meanwhile(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 80)?;
    let volume = ground.volume_in("own", "own", "opened", 64, block()).await?;
    let device = volume.activate()?;
    group.slice()?.slow_down(50)?;
    volume.delete().await?;
    let held = File::open(&device)?;
    group.slice()?.repair()?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    ensure!(volume.tags()?.contains("quarry.deleting"), "it is gone although it is open");
    drop(held);
    volume.gone().await?;
    group.remove()
}

async fn snapshot(ground: &Ground) -> Result<()> {
    let volume = ground.volume("origin", 8, block()).await?;
    volume.stage().await?;
    let target = volume.publish("user").await?;
    fill(&target)?;
    let data = digest(&target)?;
    volume.unpublish(&target).await?;
    volume.unstage().await?;
    let take = || {
        lvm(&["lvcreate", "-qq", "-y", "-s", "-L", "4M", "-n", "backup", &volume.full_name()])?;
        lvm(&["lvchange", "-qq", "-y", "-ay", "main/backup"])?;
        run(&["udevadm", "settle"])
    };
    let drop_it = || lvm(&["lvremove", "-qq", "-y", "main/backup"]);
    let is_whole = || Ok::<_, anyhow::Error>(digest(std::path::Path::new("/dev/main/backup"))? == data);
    take()?;
    let request = v1::DeleteVolumeRequest { volume_id: volume.id.clone(), ..v1::DeleteVolumeRequest::default() };
    refused(ground.client().controller.delete_volume(request).await, FailedPrecondition, &["main/backup", "snapshot"])?;
    ensure!(is_whole()? && !volume.tags()?.contains("deleting"));
    drop_it()?;
    // The same after the deletion was answered.
    ground.kill()?;
    lvm(&["lvchange", "-qq", "--addtag", "quarry.deleting=zero", &volume.full_name()])?;
    take()?;
    ground.start().await?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    ensure!(is_whole()?, "the wipe of the origin got at the snapshot");
    ensure!(volume.tags()?.contains("deleting"), "the origin is gone");
    drop_it()?;
    volume.gone().await?;
    std::fs::remove_dir_all(volume.folder())?;
    Ok(())
}

async fn many(ground: &Ground) -> Result<()> {
    let mut volumes = Vec::new();
    for _ in 0..8 {
        volumes.push(ground.volume("many", 4, block()).await?);
    }
    for volume in &volumes {
        volume.delete().await?;
    }
    for volume in &volumes {
        volume.gone().await?;
    }
    Ok(())
}
