//! The node dies or ends between any two calls, and while it works.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use quarry::csi::v1;
use tonic::Code::Aborted;

use crate::client::{block, mounted};
use crate::inside::check::{
    Ground, MIB, StandIn, answered, are_zero, comfortable, digest, eventually, file_with, fill, refused,
};

use super::capacity_of;

cases! {
    "ext4: the node dies between any two calls of a life" => ext4,
    "xfs: the node dies between any two calls of a life" => xfs,
    "btrfs: the node dies between any two calls of a life" => btrfs,
    "block: the node dies between any two calls of a life" => raw_block,
    "the node dies during a wipe, and the next one wipes anew and removes" => during_a_wipe,
    "the node dies between the mark of a deletion and the wipe" => before_the_wipe,
    "the node dies at many moments of a stage, and the next try stages" => during_a_stage,
    "the node dies at many moments of a create, and the next try makes one volume" => during_a_create,
    "SIGTERM lets the running calls end and be answered" => terminate_drains,
    "SIGTERM during a wipe ends at once, and the next node goes on" => terminate_during_a_wipe,
    "a second node on the same socket is refused and the first goes on" => second_node,
}

async fn ext4(ground: &Ground) -> Result<()> {
    life(ground, "ext4").await
}

async fn xfs(ground: &Ground) -> Result<()> {
    life(ground, "xfs").await
}

async fn btrfs(ground: &Ground) -> Result<()> {
    life(ground, "btrfs").await
}

async fn life(ground: &Ground, file_system: &str) -> Result<()> {
    let mib = comfortable(file_system);
    let volume = ground.volume("dies", mib, mounted(file_system)).await?;
    ground.crash().await?;
    let staging = volume.stage().await?;
    ground.crash().await?;
    let target = volume.publish("user").await?;
    ground.crash().await?;
    file_with(&target.join("f"), 1 << 20)?;
    let data = digest(&target.join("f"))?;
    volume.grow((mib + 16) * MIB).await?;
    ground.crash().await?;
    volume.grow_at(&target).await?;
    ground.crash().await?;
    let other = volume.publish_read_only("other").await?;
    ground.crash().await?;
    ensure!(digest(&other.join("f"))? == data);
    volume.unpublish(&target).await?;
    ground.crash().await?;
    volume.unpublish(&other).await?;
    ground.crash().await?;
    ensure!(digest(&staging.join("f"))? == data);
    volume.unstage().await?;
    ground.crash().await?;
    volume.stage().await?;
    ensure!(digest(&staging.join("f"))? == data);
    volume.unstage().await?;
    ground.crash().await?;
    volume.delete().await?;
    ground.crash().await?;
    volume.gone().await?;
    volume.delete().await?;
    fs::remove_dir_all(volume.folder())?;
    Ok(())
}

async fn raw_block(ground: &Ground) -> Result<()> {
    let volume = ground.volume("dies", 8, block()).await?;
    ground.crash().await?;
    volume.stage().await?;
    ground.crash().await?;
    let target = volume.publish("user").await?;
    fill(&target)?;
    let data = digest(&target)?;
    ground.crash().await?;
    let other = volume.publish("other").await?;
    ground.crash().await?;
    ensure!(digest(&other)? == data);
    volume.grow(16 * MIB).await?;
    ground.crash().await?;
    volume.grow_at(&target).await?;
    volume.unpublish(&target).await?;
    ground.crash().await?;
    volume.unpublish(&other).await?;
    ground.crash().await?;
    volume.unstage().await?;
    ground.crash().await?;
    volume.delete().await?;
    ground.crash().await?;
    volume.gone().await?;
    fs::remove_dir_all(volume.folder())?;
    Ok(())
}

async fn during_a_wipe(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 200)?;
    let (_, largest) = capacity_of(ground, "own").await?;
    let volume = ground.volume_in("own", "own", "wiped", largest / MIB, block()).await?;
    fill_sparsely(&volume.activate()?, largest)?;
    volume.deactivate()?;
    // Slow enough that no wipe ends before the last crash.
    group.slice()?.slow_down(250)?;
    volume.delete().await?;
    for pause in [0, 200, 700] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        ground.crash().await?;
        let request = ground.request("own", &volume.name, largest, block());
        refused(ground.client().controller.create_volume(request).await, Aborted, &["being wiped"])?;
    }
    group.slice()?.repair()?;
    volume.gone().await?;
    let next = ground.volume_in("own", "own", "next", largest / MIB, block()).await?;
    ensure!(are_zero(&next.activate()?)?, "a part was not wiped");
    next.deactivate()?;
    next.remove().await?;
    group.remove()
}

/// A mark at every MiB, which is quicker than writing all of it.
fn fill_sparsely(device: &std::path::Path, bytes: i64) -> Result<()> {
    for mib in 0..u64::try_from(bytes / MIB)? {
        crate::inside::check::write_at(device, mib << 20, b"precious")?;
    }
    Ok(())
}

async fn before_the_wipe(ground: &Ground) -> Result<()> {
    let volume = ground.volume("marked", 8, block()).await?;
    fill(&volume.activate()?)?;
    volume.deactivate()?;
    // Activation comes first in a wipe: held up there, nothing is wiped yet when the node dies.
    let stand_in = StandIn::lvm("case \"$*\" in *--activate*) sleep 5;; esac")?;
    volume.delete().await?;
    ground.kill()?;
    drop(stand_in);
    ensure!(volume.tags()?.contains("quarry.deleting"), "it is not marked");
    ground.start().await?;
    volume.gone().await
}

async fn during_a_stage(ground: &Ground) -> Result<()> {
    for pause in [0, 15, 40, 80, 120, 200] {
        let volume = ground.volume("staged", 8, mounted("ext4")).await?;
        let request = volume.stage_request()?;
        let mut node = ground.client().node;
        let call = tokio::spawn(async move { node.node_stage_volume(request).await.map(drop) });
        tokio::time::sleep(Duration::from_millis(pause)).await;
        ground.crash().await?;
        call.await?.ok();
        // A command of the dead node may still be at it.
        eventually("the volume can be staged", || async {
            Ok(ground.client().node.node_stage_volume(volume.stage_request()?).await.is_ok())
        })
        .await?;
        fs::write(volume.staging()?.join("f"), "data")?;
        volume.remove().await?;
    }
    Ok(())
}

async fn during_a_create(ground: &Ground) -> Result<()> {
    for pause in [0, 10, 30, 60, 100] {
        let request = ground.request("main", &ground.name("made"), 8 * MIB, block());
        let again = request.clone();
        let mut controller = ground.client().controller;
        let call = tokio::spawn(async move { controller.create_volume(request).await.map(drop) });
        tokio::time::sleep(Duration::from_millis(pause)).await;
        ground.crash().await?;
        call.await?.ok();
        eventually("the volume can be made", || async {
            Ok(ground.client().controller.create_volume(again.clone()).await.is_ok())
        })
        .await?;
        ground.volume_from(again, "main").await?.remove().await?;
    }
    Ok(())
}

async fn terminate_drains(ground: &Ground) -> Result<()> {
    let stand_in = StandIn::lvm("case \"$*\" in *lvcreate*) sleep 3;; esac")?;
    let request = ground.request("main", &ground.name("drains"), 8 * MIB, block());
    let mut controller = ground.client().controller;
    let call = tokio::spawn({
        let request = request.clone();
        async move { controller.create_volume(request).await }
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    ground.terminate()?;
    let is_closed = || async { Ok(crate::client::Client::connect(crate::site::SOCKET).await.is_err()) };
    eventually("it takes no callers", is_closed).await?;
    ensure!(!call.is_finished(), "it took callers until the running call had ended");
    answered(call.await?)?;
    ground.ended().await?;
    drop(stand_in);
    ensure!(ground.log()?.contains("no new calls are taken"), "the log says nothing of the end");
    ground.start().await?;
    ground.volume_from(request, "main").await?.remove().await
}

async fn terminate_during_a_wipe(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 200)?;
    let volume = ground.volume_in("own", "own", "wiped", 192, block()).await?;
    group.slice()?.slow_down(30)?;
    volume.delete().await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    ground.terminate()?;
    ground.ended().await?;
    ensure!(begun.elapsed() < Duration::from_secs(15), "the end took {:?}", begun.elapsed());
    ensure!(volume.tags()?.contains("quarry.deleting"), "it was removed before it was wiped");
    group.slice()?.repair()?;
    ground.start().await?;
    volume.gone().await?;
    group.remove()
}

async fn second_node(ground: &Ground) -> Result<()> {
    let output = std::process::Command::new(ground.program())
        .args(["node", "--node-name", "second", "--volume-group", "main"])
        .args(["--csi-endpoint", &format!("unix://{}", crate::site::SOCKET)])
        .output()?;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && printed.contains("another process serves"), "{printed}");
    answered(ground.client().controller.list_volumes(v1::ListVolumesRequest::default()).await)?;
    ground.crash().await
}
