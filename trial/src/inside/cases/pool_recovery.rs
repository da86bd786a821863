//! Pools that fail, each in its own way: what is told of them, that nothing is lost that was flushed, and that the commands of
//! docs/pools.md bring them back.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quarry::csi::v1;
use tonic::Code::{FailedPrecondition, ResourceExhausted, Unavailable};

use super::documented::follow;
use super::killed_lvm::thin_id;
use super::pools::{data, extents, load, metrics_of, status, write_mib};
use super::sources::{forget, snapshot};
use super::{capacity_of, reasons, storage_reasons};
use crate::client::block;
use crate::inside::check::{
    Ground, LocalSettings, MIB, Volume, answered, digest_of_first, eventually, fill, lvm, read_at, refused, run,
    write_at,
};

cases! {
    "a pool whose metadata is full is told, and goes on once it is given more" => metadata_full,
    "a pool whose metadata is full grows as soon as its group has room" => metadata_waits,
    "a pool that could not write its metadata needs a check, can be read, and is repaired" => needs_check,
    "a pool that cannot read its metadata either has failed, and is back once its disk is" => failed,
    "a pool of which lvm's check complains stays inactive, and is active within ten seconds after its repair" => inactive,
    "a pool that fills grows within ten seconds after its group was given a disk" => another_disk,
    "a pool that lvm counts otherwise is told, and is right again with the newest metadata" => out_of_step,
    "of a pool that was removed nothing is left on the disk" => removed,
}

const REPAIR: &str = "Needs a check, read-only, failed";

/// That the trouble of a class's pool is told by all who are asked, and that nothing is made in it.
async fn ensure_told(ground: &Ground, class: &str, volume: &Volume<'_>, reason: &str) -> Result<()> {
    let told = reasons(ground, volume).await?;
    ensure!(told == [reason], "{told:?} {:?}", status(class));
    let severity = health(ground, volume).await?.status();
    let is_out_of_reach = ["ThinPoolFailed", "ThinPoolInactive"].contains(&reason);
    ensure!((severity == v1::VolumeHealthErrorType::Inaccessible) == is_out_of_reach, "{severity:?}");
    ensure!(storage_reasons(ground).await? == [reason], "{:?}", storage_reasons(ground).await?);
    ensure!(metrics_of(class)?.contains(&format!("reason=\"{reason}\"}} 1")), "{}", metrics_of(class)?);
    ensure!(capacity_of(ground, class).await? == (0, 0));
    let request = ground.request(class, &ground.name("late"), 4 * MIB, block());
    let pool = format!("thin pool {class}");
    refused(ground.client().controller.create_volume(request).await, ResourceExhausted, &[&pool])
}

/// That nothing is told of a volume any more. What the controller says and what the node says may be from before and after.
async fn told_as_well(ground: &Ground, volume: &Volume<'_>) -> Result<()> {
    let is_well = || async { Ok(reasons(ground, volume).await.is_ok_and(|told| told.is_empty())) };
    eventually("it is told as well", is_well).await
}

/// What is told of a volume first.
async fn health(ground: &Ground, volume: &Volume<'_>) -> Result<v1::volume_health::VolumeHealthEntry> {
    let request = v1::NodeGetVolumeHealthRequest { volume_id: volume.id.clone(), ..Default::default() };
    let answer = answered(ground.client().node.node_get_volume_health(request).await)?;
    let told = answer.volume_health.context("no health")?.health_statuses;
    told.into_iter().next().context("it is told as well")
}

/// Writes to so many MiB, and makes sure that they are there after whatever comes.
fn write_and_flush(device: &Path, mib: u64) -> Result<u64> {
    write_mib(device, 0, mib)?;
    File::open(device)?.sync_all()?;
    digest_of_first(device, mib << 20)
}

/// A volume in use whose pool has tables of many leaves.
async fn with_tables<'g>(ground: &'g Ground, class: &str) -> Result<(Volume<'g>, PathBuf)> {
    let volume = ground.volume_in(class, "own", "written", 240, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    write_and_flush(&device, 200)?;
    Ok((volume, device))
}

/// Writes to a piece in each leaf of the tables, which after a snapshot makes each of them anew.
fn scatter(device: &Path, round: u8) -> Result<()> {
    let file = OpenOptions::new().write(true).open(device)?;
    for leaf in 1..25_u64 {
        file.write_all_at(&[round; 4096], leaf << 23)?;
    }
    Ok(file.sync_all()?)
}

/// Takes a snapshot that neither lvm nor the node might take any more, and writes to the volume; false when the pool takes no more.
fn snapshot_and_write(pool: &str, device: &Path, thin_id: u64, round: u8) -> bool {
    let message = format!("create_snap {} {thin_id}", 900 + u32::from(round));
    let taken = run(&["dmsetup", "message", &format!("own-{pool}-tpool"), "0", &message]);
    taken.is_ok() && scatter(device, round).is_ok()
}

fn use_up_metadata(pool: &str, device: &Path, thin_id: u64) -> Result<()> {
    for round in 100..200 {
        if !snapshot_and_write(pool, device, thin_id, round) {
            return Ok(());
        }
    }
    bail!("there is still room for metadata: {:?}", status(pool)?)
}

async fn metadata_full(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let sizes = ["--size", "300m", "--poolmetadatasize", "4m", "--chunksize", "64k"];
    let make = ["lvcreate", "--yes", "--type", "thin-pool", "--zero", "y", "--config", "activation/error_when_full=1"];
    lvm(&[&make[..], &sizes, &["--name", "fixed", "own"]].concat())?;
    let (volume, device) = with_tables(ground, "fixed").await?;
    let held = digest_of_first(&device, 1 << 20)?;
    let (id, mut round) = (thin_id(volume.logical_name())?, 0);
    while reasons(ground, &volume).await? != ["ThinPoolMetadataFilling"] {
        ensure!(round < 60 && snapshot_and_write("fixed", &device, id, round), "{:?}", status("fixed")?);
        round += 1;
    }
    let name = ground.name("late");
    let request = v1::CreateSnapshotRequest { name, source_volume_id: volume.id.clone(), ..Default::default() };
    refused(ground.client().controller.create_snapshot(request).await, FailedPrecondition, &["--poolmetadatasize"])?;
    use_up_metadata("fixed", &device, id)?;
    ensure_told(ground, "fixed", &volume, "ThinPoolMetadataFull").await?;
    ensure!(digest_of_first(&device, 1 << 20)? == held, "what was flushed is not there");
    ensure!(write_at(&device, 0, &[1; 4096]).is_err(), "it was written to, and that was even flushed");
    follow("Metadata filling or full", 0, &[])?;
    ensure!(reasons(ground, &volume).await?.is_empty(), "{:?}", reasons(ground, &volume).await?);
    ensure!(extents("fixed_tmeta")? == 5, "{} extents", extents("fixed_tmeta")?);
    scatter(&device, 255)?;
    let snapshot = snapshot(ground, &volume, &ground.name("after")).await?;
    forget(ground, &snapshot).await?;
    volume.remove().await?;
    run(&["udevadm", "settle"])?;
    group.remove()
}

async fn metadata_waits(ground: &Ground) -> Result<()> {
    // Of 77 extents 75 are data, one is metadata and one its spare.
    let mut group = ground.group("own", 310)?;
    let (volume, device) = with_tables(ground, "tight").await?;
    let held = digest_of_first(&device, 1 << 20)?;
    use_up_metadata("tight", &device, thin_id(volume.logical_name())?)?;
    ensure_told(ground, "tight", &volume, "ThinPoolMetadataFull").await?;
    ensure!(digest_of_first(&device, 1 << 20)? == held, "what was flushed is not there");
    let disk = ground.slice(40)?;
    follow("Filling or full", 0, &[("/dev/sdx", &disk.path())])?;
    group.slices.push(disk);
    told_as_well(ground, &volume).await?;
    scatter(&device, 255)?;
    volume.remove().await?;
    run(&["udevadm", "settle"])?;
    group.remove()
}

/// The place of the metadata of the pool `fixed`, within a device.
fn metadata_table() -> Result<String> {
    run(&["dmsetup", "table", "own-fixed_tmeta"])
}

async fn needs_check(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let volume = ground.volume_in("fixed", "own", "written", 40, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    let deleted = ground.volume_in("fixed", "own", "deleted", 8, block()).await?;
    let taken = snapshot(ground, &volume, &ground.name("snap")).await?;
    let held = write_and_flush(&device, 4)?;
    let table = metadata_table()?;
    let [start, length, _, disk, offset] = table.split_whitespace().collect::<Vec<_>>()[..] else { bail!("{table}") };
    load("own-fixed_tmeta", &format!("{start} {length} flakey {disk} {offset} 0 3600 1 error_writes"))?;
    let written = write_at(&device, 20 << 20, &[1; 4096]);
    ensure!(written.is_err(), "it was flushed: {} {:?}", metadata_table()?, status("fixed")?);
    ensure_told(ground, "fixed", &volume, "ThinPoolNeedsCheck").await?;
    ensure!(digest_of_first(&device, 4 << 20)? == held, "what was flushed is not there");
    load("own-fixed_tmeta", &table)?;
    ensure_told(ground, "fixed", &volume, "ThinPoolNeedsCheck").await?;
    // What lvm cannot tell the pool it would count all the same, and then not repair the pool.
    deleted.delete().await?;
    let snapshot_id = taken.snapshot_id.clone();
    let request = v1::DeleteSnapshotRequest { snapshot_id, ..Default::default() };
    refused(ground.client().controller.delete_snapshot(request).await, Unavailable, &["needs a check"])?;
    let is_kept = || async { Ok(ground.log()?.contains("could not remove deleted volumes")) };
    eventually("the deleted volume is kept for now", is_kept).await?;
    volume.unpublish(&device).await?;
    volume.unstage().await?;
    follow(REPAIR, 0, &[])?;
    deleted.gone().await?;
    forget(ground, &taken).await?;
    well_again(ground, volume, held).await?;
    group.remove()
}

async fn failed(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let volume = ground.volume_in("fixed", "own", "written", 40, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    let held = write_and_flush(&device, 4)?;
    let table = metadata_table()?;
    let length = table.split_whitespace().nth(1).context("no length")?;
    load("own-fixed_tmeta", &format!("0 {length} error"))?;
    ensure!(write_at(&device, 20 << 20, &[1; 4096]).is_err(), "it was flushed");
    ensure_told(ground, "fixed", &volume, "ThinPoolFailed").await?;
    ensure!(digest_of_first(&device, 4 << 20).is_err(), "it was read");
    load("own-fixed_tmeta", &table)?;
    ensure_told(ground, "fixed", &volume, "ThinPoolFailed").await?;
    volume.unpublish(&device).await?;
    volume.unstage().await?;
    follow(REPAIR, 0, &[])?;
    well_again(ground, volume, held).await?;
    group.remove()
}

/// That after what is documented the pool holds what it held, and takes more.
async fn well_again(ground: &Ground, volume: Volume<'_>, held: u64) -> Result<()> {
    volume.stage().await?;
    let device = volume.publish("user").await?;
    ensure!(digest_of_first(&device, 4 << 20)? == held, "what was flushed is not there");
    ensure!(reasons(ground, &volume).await?.is_empty(), "{:?}", reasons(ground, &volume).await?);
    write_at(&device, 20 << 20, &[1; 4096])?;
    follow(REPAIR, 1, &[])?;
    volume.remove().await?;
    run(&["udevadm", "settle"]).map(drop)
}

async fn inactive(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let volume = ground.volume_in("fixed", "own", "written", 40, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    let held = write_and_flush(&device, 4)?;
    volume.unpublish(&device).await?;
    volume.unstage().await?;
    ground.kill()?;
    let table = metadata_table()?;
    let begin = 512 * table.split_whitespace().nth(4).context("no place")?.parse::<u64>()?;
    lvm(&["vgchange", "--activate", "n", "own"])?;
    let disk = group.slice()?.device();
    // Which pieces are in use; where that stands, the first block says (`struct thin_disk_superblock`).
    let counts = read_at(&disk, begin + 64 + 16, 8)?.try_into().map(u64::from_le_bytes);
    let Ok(counts) = counts else { bail!("eight bytes") };
    write_at(&disk, begin + counts * 4096, &[0xff; 4096])?;
    // Whatever the machine's settings say, the driver has pools checked.
    let settings = LocalSettings::say("global {\n\tthin_check_executable = \"\"\n}\n")?;
    ground.start().await?;
    let is_told = || async { Ok(storage_reasons(ground).await? == ["ThinPoolInactive"]) };
    eventually("it is told as inactive", is_told).await?;
    ensure_told(ground, "fixed", &volume, "ThinPoolInactive").await?;
    let message = health(ground, &volume).await?.message;
    ensure!(message.contains("Check of pool own/fixed failed"), "{message}");
    drop(settings);
    follow("Inactive", 0, &[])?;
    let repaired = Instant::now();
    told_as_well(ground, &volume).await?;
    ensure_soon(repaired)?;
    well_again(ground, volume, held).await?;
    group.remove()
}

/// Within ten seconds, and what lvm takes on a busy machine: not only when all is looked at again after a minute.
fn ensure_soon(since: Instant) -> Result<()> {
    ensure!(since.elapsed() < Duration::from_secs(40), "it took {:?}", since.elapsed());
    Ok(())
}

async fn another_disk(ground: &Ground) -> Result<()> {
    // Of 18 extents 16 are data, one is metadata and one its spare.
    let mut group = ground.group("own", 74)?;
    let volume = ground.volume_in("growing", "own", "filling", 90, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    write_mib(&device, 0, 60)?;
    let is_told = || async { Ok(reasons(ground, &volume).await.is_ok_and(|told| told == ["ThinPoolFilling"])) };
    eventually("it is told as filling", is_told).await?;
    // That there was no room is known by now, and so is when that is looked at again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let disk = ground.slice(60)?;
    follow("Filling or full", 0, &[("/dev/sdx", &disk.path())])?;
    group.slices.push(disk);
    let given = Instant::now();
    eventually("the pool grew", || async { Ok(data("growing")?.1 == 1536) }).await?;
    ensure_soon(given)?;
    told_as_well(ground, &volume).await?;
    write_mib(&device, 60, 10)?;
    volume.remove().await?;
    group.remove()
}

async fn out_of_step(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let volume = ground.volume_in("growing", "own", "first", 40, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    let held = write_and_flush(&device, 4)?;
    lvm(&["vgcfgbackup", "--file", "/run/older", "own"])?;
    let second = ground.volume_in("growing", "own", "second", 40, block()).await?;
    second.stage().await?;
    let held_by_second = write_and_flush(&second.publish("user").await?, 3)?;
    second.unpublish(&second.target("user")?).await?;
    second.unstage().await?;
    let is_newest = || {
        let backup = fs::read_to_string("/etc/lvm/backup/own").unwrap_or_default();
        backup.contains(second.logical_name())
    };
    eventually("there is a backup that knows both", || async { Ok(is_newest()) }).await?;
    ensure!(reasons(ground, &volume).await?.is_empty());
    lvm(&["vgcfgrestore", "--yes", "--force", "--file", "/run/older", "own"])?;
    ensure!(reasons(ground, &volume).await? == ["ThinPoolOutOfStep"], "{:?}", reasons(ground, &volume).await?);
    ensure!(storage_reasons(ground).await? == ["ThinPoolOutOfStep"]);
    ensure!(metrics_of("growing")?.contains("reason=\"ThinPoolOutOfStep\"} 1"));
    // A node that starts compares groups and backups, and one that works writes a backup after each change.
    ground.crash().await?;
    let other = ground.volume_in("own", "own", "thick", 8, block()).await?;
    other.remove().await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    ensure!(is_newest(), "the newest metadata is nowhere any more");
    ensure!(digest_of_first(&device, 4 << 20)? == held, "what was flushed is not there");
    follow("Out of step", 0, &[])?;
    told_as_well(ground, &volume).await?;
    ensure!(digest_of_first(&device, 4 << 20)? == held, "what was flushed is not there any more");
    second.stage().await?;
    let seen = second.publish("user").await?;
    ensure!(digest_of_first(&seen, 3 << 20)? == held_by_second, "what was flushed to the second one is not there");
    second.remove().await?;
    volume.remove().await?;
    group.remove()
}

async fn removed(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let volume = ground.volume_in("fixed", "own", "secret", 60, block()).await?;
    volume.stage().await?;
    fill(&volume.publish("user").await?)?;
    let table = run(&["dmsetup", "table", "own-fixed_tdata"])?;
    let begin = 512 * table.split_whitespace().nth(4).context("no place")?.parse::<u64>()?;
    let (disk, flags) = (group.slice()?.path(), "iflag=direct,skip_bytes");
    let read = format!("dd if={disk} bs=1M skip={begin} count=64 {flags} status=none");
    let left = || run(&["sh", "-c", &format!("{read} | tr -d '\\0' | wc -c")]);
    volume.remove().await?;
    ensure!(left()?.parse::<u64>()? > 50 << 20, "{} bytes are left by the pool itself", left()?);
    follow("Removing a pool", 0, &[])?;
    ensure!(left()? == "0", "{} bytes are left", left()?);
    ensure!(lvm(&["lvs", "--noheadings", "--options", "lv_name", "own"])?.is_empty());
    group.remove()
}
