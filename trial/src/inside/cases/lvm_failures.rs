//! An lvm, or an mkfs, that is absent, killed, talks nonsense, or does something else than it says.

use anyhow::{Result, ensure};
use quarry::csi::v1;
use tonic::Code::{Internal, NotFound};

use crate::client::{block, mounted};
use crate::inside::check::{Ground, MIB, MachineState, StandIn, Volume, answered, hidden, refused};

use super::capacity_of;

cases! {
    "without lvm on the machine changes are refused in words, and everything else goes on" => absent,
    "a node starts without lvm on the machine" => start_without_lvm,
    "an lvm that is killed before its work leaves nothing, and the next try succeeds" => killed_before,
    "an lvm that is killed after its work has done it" => killed_after,
    "an lvm that fails is quoted" => fails_in_words,
    "an lvm that fails after its work has done it" => fails_after,
    "an lvm that talks nonsense and does nothing is not believed" => nonsense,
    "an lvm that talks nonsense beside its work has done it" => nonsense_beside,
    "without mkfs a fresh volume stays fresh, and is formatted once it is there" => no_mkfs,
    "an mkfs that says it is done but is not leaves nothing mounted" => lying_mkfs,
}

async fn absent(ground: &Ground) -> Result<()> {
    let volume = ground.volume("absent", 8, mounted("ext4")).await?;
    volume.stage().await?;
    let before = MachineState::read()?;
    let stand_in = hidden("/usr/sbin/lvm")?;
    let mut controller = ground.client().controller;
    let words = &["lvm is not installed", "quarry doctor"];
    let request = ground.request("main", &ground.name("absent"), 4 * MIB, block());
    refused(controller.create_volume(request).await, Internal, words)?;
    let grow = v1::ControllerExpandVolumeRequest {
        volume_id: volume.id.clone(),
        capacity_range: Some(v1::CapacityRange { required_bytes: 16 * MIB, limit_bytes: 0 }),
        ..v1::ControllerExpandVolumeRequest::default()
    };
    refused(controller.controller_expand_volume(grow).await, Internal, words)?;
    let target = volume.publish("user").await?;
    std::fs::write(target.join("f"), "data")?;
    std::fs::remove_file(target.join("f"))?;
    capacity_of(ground, "main").await?;
    volume.unpublish(&target).await?;
    drop(stand_in);
    std::fs::remove_dir_all(volume.folder().join("user"))?;
    let differences = before.differences(&MachineState::read()?);
    ensure!(differences.is_empty(), "{differences:?}");
    volume.remove().await
}

async fn start_without_lvm(ground: &Ground) -> Result<()> {
    let volume = ground.volume("absent", 8, mounted("ext4")).await?;
    volume.stage().await?;
    let stand_in = hidden("/usr/sbin/lvm")?;
    ground.crash().await?;
    volume.publish("user").await?;
    drop(stand_in);
    volume.remove().await
}

/// Stages of a life that each need lvm, with an lvm that spoils each one. Answers how the calls went.
async fn spoiled(ground: &Ground, lines: &str) -> Result<Vec<Result<(), tonic::Status>>> {
    let name = ground.name("spoiled");
    let other = ground.volume("spoiled", 4, block()).await?;
    let stand_in = StandIn::lvm(lines)?;
    let request = || ground.request("main", &name, 4 * MIB, block());
    let create = ground.client().controller.create_volume(request()).await.map(drop);
    let grow = v1::ControllerExpandVolumeRequest {
        volume_id: other.id.clone(),
        capacity_range: Some(v1::CapacityRange { required_bytes: 8 * MIB, limit_bytes: 0 }),
        ..v1::ControllerExpandVolumeRequest::default()
    };
    let grow = ground.client().controller.controller_expand_volume(grow).await.map(drop);
    let stage = ground.client().node.node_stage_volume(other.stage_request()?).await.map(drop);
    let delete = v1::DeleteVolumeRequest { volume_id: other.id.clone(), ..v1::DeleteVolumeRequest::default() };
    let delete = ground.client().controller.delete_volume(delete).await.map(drop);
    drop(stand_in);
    // Everything is made good by trying again, whatever became of the first try.
    let volume = ground.volume_from(request(), "main").await?;
    if delete.is_err() {
        other.grow(8 * MIB).await?;
        other.stage().await?;
        ensure!(other.size().await? == 8 * MIB);
    }
    take_away(other).await?;
    volume.remove().await?;
    Ok(vec![create, grow, stage, delete])
}

async fn take_away(volume: Volume<'_>) -> Result<()> {
    volume.unstage().await?;
    volume.delete().await?;
    volume.gone().await?;
    std::fs::remove_dir_all(volume.folder())?;
    Ok(())
}

fn all_are_refused(answers: Vec<Result<(), tonic::Status>>, words: &[&str]) -> Result<()> {
    for answer in answers {
        refused(answer.map(tonic::Response::new), Internal, words)?;
    }
    Ok(())
}

fn all_are_done(answers: Vec<Result<(), tonic::Status>>) -> Result<()> {
    for answer in answers {
        answered(answer.map(tonic::Response::new))?;
    }
    Ok(())
}

async fn killed_before(ground: &Ground) -> Result<()> {
    all_are_refused(spoiled(ground, "kill -KILL $$").await?, &["lvm", "a signal"])
}

async fn killed_after(ground: &Ground) -> Result<()> {
    all_are_done(spoiled(ground, "/run/check-bin/lvm \"$@\"; kill -KILL $$").await?)
}

async fn fails_in_words(ground: &Ground) -> Result<()> {
    let answers = spoiled(ground, "echo '  The moon is in the wrong quarter.' >&2; exit 5").await?;
    all_are_refused(answers, &["status 5", "The moon is in the wrong quarter."])
}

async fn fails_after(ground: &Ground) -> Result<()> {
    all_are_done(spoiled(ground, "/run/check-bin/lvm \"$@\"; exit 5").await?)
}

async fn nonsense(ground: &Ground) -> Result<()> {
    let answers = spoiled(ground, "head -c 100000 /dev/urandom; echo '{\"report\": [' ; exit 0").await?;
    ensure!(answers.iter().all(Result::is_err), "lvm was believed: {answers:?}");
    for status in answers.into_iter().filter_map(Result::err) {
        ensure!(status.code() == Internal && !status.message().is_empty(), "{status:?}");
    }
    let get = v1::ControllerGetVolumeRequest { volume_id: String::from("lab-node/none") };
    refused(ground.client().controller.controller_get_volume(get).await, NotFound, &["none"])
}

async fn nonsense_beside(ground: &Ground) -> Result<()> {
    all_are_done(spoiled(ground, "head -c 100000 /dev/urandom; head -c 100000 /dev/urandom >&2").await?)
}

async fn no_mkfs(ground: &Ground) -> Result<()> {
    let volume = ground.volume("no-mkfs", 8, mounted("ext4")).await?;
    let stand_in = hidden("/usr/sbin/mkfs.ext4")?;
    let answer = ground.client().node.node_stage_volume(volume.stage_request()?).await;
    drop(stand_in);
    refused(answer, Internal, &["mkfs.ext4 is not installed"])?;
    ensure!(volume.tags()?.contains("quarry.fresh"), "it is not fresh any more");
    volume.stage().await?;
    ensure!(!volume.tags()?.contains("quarry.fresh"), "it is still fresh");
    volume.remove().await
}

async fn lying_mkfs(ground: &Ground) -> Result<()> {
    for lines in ["exit 0", "kill -KILL $$", "head -c 1000000 /dev/urandom > /dev/null; exit 1"] {
        let volume = ground.volume("lying", 8, mounted("ext4")).await?;
        let stand_in = StandIn::program("/usr/sbin/mkfs.ext4", lines)?;
        let answer = ground.client().node.node_stage_volume(volume.stage_request()?).await;
        drop(stand_in);
        ensure!(answer.is_err(), "a volume without a file system was staged");
        volume.stage().await.map_err(|error| error.context(format!("after an mkfs that does: {lines}")))?;
        volume.remove().await?;
    }
    Ok(())
}
