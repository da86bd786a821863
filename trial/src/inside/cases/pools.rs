//! Thin pools: how they grow, what is told of them when they cannot, and how one gets them back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quarry::csi::v1;
use tonic::Code::ResourceExhausted;

use super::documented::follow;
use super::sources::{forget, logical_name, snapshot};
use super::{capacity_of, reasons, storage_reasons};
use crate::client::{block, mounted};
use crate::inside::check::{
    Ground, Group, LocalSettings, MIB, answered, digest, digest_of_first, eventually, file_with, fill, lvm, metrics,
    refused, run,
};

cases! {
    "a pool grows before it is full, and its metadata with it" => grows,
    "a pool that an administrator made is told when it fills, and neither grown nor removed" => untended,
    "a pool grows no further than its class may use the group, and that is told until there is room" => no_room,
    "a full pool fails writes at once, is told, keeps what was flushed, and goes on once it is extended" => full,
    "pools are active as soon as a node runs, and keep their mark whatever an administrator does" => kept_active,
    "a pool in which a power cut left room to nobody is set right when the node starts" => leaked,
    "a new file system takes of its pool what must be written of it, and not its size" => made_in_pool,
    "what a file system does not use any more goes back to the pool, and so does a deleted volume" => given_back,
    "what a volume does not use any more is given back to the disk below its pool" => passed_down,
    "the reserve of a thick snapshot grows before it is full" => reserve_grows,
    "a thick snapshot whose reserve cannot grow is told as lost at its volume" => reserve_lost,
    "a pool whose disk hangs is told, has no room, and holds up no other" => silent,
}

/// The words of a pool's state.
pub(super) fn status(pool: &str) -> Result<Vec<String>> {
    let text = run(&["dmsetup", "status", &format!("own-{pool}-tpool")])?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Pieces of 64 KiB in use, and in all.
pub(super) fn data(pool: &str) -> Result<(u64, u64)> {
    let words = status(pool)?;
    let (used, total) = words.get(5).and_then(|word| word.split_once('/')).context("no data")?;
    Ok((used.parse()?, total.parse()?))
}

pub(super) fn extents(name: &str) -> Result<u64> {
    Ok(lvm(&["lvs", "--noheadings", "--options", "seg_size_pe", "--all", &format!("own/{name}")])?.trim().parse()?)
}

/// Writes so many MiB from a place on, past the page cache.
pub(super) fn write_mib(device: &Path, at: u64, mib: u64) -> Result<()> {
    let (device, at, mib) = (format!("of={}", device.display()), format!("seek={at}"), format!("count={mib}"));
    run(&["dd", "if=/dev/urandom", "bs=1M", "oflag=direct", "conv=notrunc", "status=none", &device, &at, &mib])
        .map(drop)
}

pub(super) fn metrics_of(pool: &str) -> Result<String> {
    let text = metrics("/metrics")?.1;
    let lines = text.lines().filter(|line| line.contains(&format!("thin_pool=\"{pool}\"")));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

async fn grows(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let volume = ground.volume_in("growing", "own", "fast", 200, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    ensure!(data("growing")?.1 == 1024, "{:?}", data("growing")?);
    write_mib(&device, 0, 46)?;
    ensure!(data("growing")?.1 == 1024, "it grew too early: {:?}", data("growing")?);
    write_mib(&device, 46, 6)?;
    eventually("the pool grew", || async { Ok(data("growing")?.1 == 1536) }).await?;
    write_mib(&device, 52, 30)?;
    eventually("the pool grew again", || async { Ok(data("growing")?.1 == 2304) }).await?;
    ensure!(reasons(ground, &volume).await?.is_empty());
    let told = metrics_of("growing")?;
    ensure!(told.contains("quarry_thin_pool_data_bytes") && told.contains(&(144 * MIB).to_string()), "{told}");
    volume.remove().await?;
    group.remove()?;

    // 64 bytes for each 64 KiB that may be promised, which are 100 times the data: 6.25 MiB, and 9.4 MiB once it has grown.
    let group = ground.group("own", 400)?;
    let volume = ground.volume_in("promising", "own", "fast", 60, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    let metadata = || -> Result<(u64, bool)> {
        Ok((extents("promising_tmeta")?, status("promising")?.get(4).is_some_and(|word| word.ends_with("/3072"))))
    };
    ensure!(metadata()? == (2, false), "{:?} {:?}", metadata()?, status("promising")?);
    write_mib(&device, 0, 50)?;
    eventually("the metadata grew, for lvm and for the kernel", || async { Ok(metadata()? == (3, true)) }).await?;
    eventually("the data grew after it", || async { Ok(data("promising")?.1 == 1536) }).await?;
    ensure!(reasons(ground, &volume).await?.is_empty(), "{:?}", status("promising")?);
    volume.remove().await?;
    group.remove()
}

async fn untended(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let (make, name) = (["lvcreate", "--yes", "--type", "thin-pool", "--zero", "y"], ["--name", "growing", "own"]);
    lvm(&[&make[..], &["--size", "64m", "--chunksize", "64k"], &name].concat())?;
    let request = ground.request("growing", &ground.name("hangs"), 4 * MIB, block());
    let advice = "lvchange --errorwhenfull y own/growing";
    refused(ground.client().controller.create_volume(request).await, ResourceExhausted, &[advice])?;
    ensure!(capacity_of(ground, "growing").await? == (0, 0));
    lvm(&advice.split(' ').collect::<Vec<_>>())?;
    let volume = ground.volume_in("growing", "own", "filling", 60, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    write_mib(&device, 0, 40)?;
    ensure!(reasons(ground, &volume).await?.is_empty(), "{:?}", reasons(ground, &volume).await?);
    write_mib(&device, 40, 10)?;
    ensure!(reasons(ground, &volume).await? == ["ThinPoolFilling"], "{:?}", reasons(ground, &volume).await?);
    ensure!(storage_reasons(ground).await? == ["ThinPoolFilling"]);
    ensure!(metrics_of("growing")?.contains("reason=\"ThinPoolFilling\"} 1"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    volume.remove().await?;
    ensure!(extents("growing")? == 16, "{} extents", extents("growing")?);
    group.remove()
}

async fn no_room(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 110)?;
    let thick = ground.volume_in("own", "own", "thick", 20, block()).await?;
    let volume = ground.volume_in("growing", "own", "fast", 200, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    let free = || lvm(&["vgs", "--noheadings", "--options", "vg_free_count", "own"]);
    write_mib(&device, 0, 50)?;
    eventually("the pool took what is left", || async { Ok(free()?.trim() == "0") }).await?;
    let most = extents("growing")?;
    ensure!((17..24).contains(&most), "{most} extents");
    write_mib(&device, 50, most * 4 - 56)?;
    let mut told = Vec::new();
    for _ in 0..100 {
        told = reasons(ground, &volume).await?;
        if !told.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(told == ["ThinPoolFilling"], "{told:?}");
    ensure!(storage_reasons(ground).await? == ["ThinPoolFilling"]);
    let metrics = metrics_of("growing")?;
    ensure!(metrics.contains("reason=\"ThinPoolFilling\"} 1"), "{metrics}");
    thick.remove().await?;
    eventually("it grew into what was given back", || async { Ok(extents("growing")? > most) }).await?;
    ensure!(reasons(ground, &volume).await?.is_empty());
    volume.remove().await?;
    group.remove()
}

async fn full(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 200)?;
    let kept = ground.volume_in("fixed", "own", "kept", 48, mounted("ext4")).await?;
    let writer = ground.volume_in("fixed", "own", "writer", 100, block()).await?;
    kept.stage().await?;
    writer.stage().await?;
    let (folder, device) = (kept.publish("user").await?, writer.publish("user").await?);
    file_with(&folder.join("flushed"), 8 << 20)?;
    let held = digest(&folder.join("flushed"))?;
    let started = Instant::now();
    let failed = write_mib(&device, 0, 100);
    ensure!(failed.is_err(), "the pool has 64 MiB, and 100 were written to it");
    ensure!(started.elapsed().as_secs() < 30, "writes hung for {:?}", started.elapsed());
    for volume in [&kept, &writer] {
        let told = reasons(ground, volume).await?;
        ensure!(told.contains(&String::from("ThinPoolFull")), "{told:?}");
    }
    ensure!(storage_reasons(ground).await? == ["ThinPoolFull"]);
    ensure!(metrics_of("fixed")?.contains("reason=\"ThinPoolFull\"} 1"));
    ensure!(capacity_of(ground, "fixed").await? == (0, 0));
    let request = ground.request("fixed", &ground.name("late"), 4 * MIB, block());
    refused(ground.client().controller.create_volume(request).await, ResourceExhausted, &["no room for data"])?;
    ensure!(digest(&folder.join("flushed"))? == held, "what was flushed is not there");
    follow("Filling or full", 1, &[])?;
    write_mib(&device, 60, 30)?;
    fs::write(folder.join("later"), "later")?;
    fs::File::open(&folder)?.sync_all()?;
    ensure!(storage_reasons(ground).await?.is_empty());
    ensure!(capacity_of(ground, "fixed").await?.0 > 0);
    kept.unpublish(&folder).await?;
    kept.unstage().await?;
    kept.stage().await?;
    ensure!(digest(&kept.publish("user").await?.join("flushed"))? == held, "what was flushed is not there any more");
    kept.remove().await?;
    writer.remove().await?;
    group.remove()
}

async fn kept_active(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let volume = ground.volume_in("growing", "own", "one", 40, block()).await?;
    let low_water = || -> Result<u64> {
        let table = run(&["dmsetup", "table", "own-growing-tpool"])?;
        Ok(table.split_whitespace().nth(6).context("no mark")?.parse()?)
    };
    ensure!(low_water()? == 256, "a quarter of 1024 pieces");
    ground.kill()?;
    lvm(&["vgchange", "--activate", "n", "own"])?;
    ground.start().await?;
    eventually("the pool is active", || async { Ok(low_water().is_ok_and(|mark| mark == 256)) }).await?;
    lvm(&["lvextend", "--extents", "+4", "own/growing"])?;
    ensure!(low_water().is_ok(), "it is gone");
    eventually("the mark is there again", || async { Ok(low_water()? == 320) }).await?;
    volume.remove().await?;
    group.remove()
}

/// Gives a device another table.
pub(super) fn load(device: &str, table: &str) -> Result<()> {
    run(&["dmsetup", "suspend", device])?;
    run(&["dmsetup", "reload", device, "--table", table])?;
    run(&["dmsetup", "resume", device]).map(drop)
}

async fn leaked(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let volume = ground.volume_in("growing", "own", "cut-off", 40, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    write_mib(&device, 0, 4)?;
    let held = digest_of_first(&device, 4 << 20)?;
    // What is written is long on its way while the pool commits that there is room for it, which no volume has before it arrives.
    let table = run(&["dmsetup", "table", "own-growing_tdata"])?;
    let [start, length, _, disk, offset] = table.split_whitespace().collect::<Vec<_>>()[..] else { bail!("{table}") };
    let at = format!("{disk} {offset}");
    load("own-growing_tdata", &format!("{start} {length} delay {at} 0 {at} 3000 {at} 0"))?;
    let target = format!("of={}", device.display());
    let words = ["if=/dev/urandom", "bs=64k", "count=4", "seek=320", "oflag=direct", "status=none", &target];
    let mut writer = Command::new("dd").args(words).spawn()?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for message in ["reserve_metadata_snap", "release_metadata_snap"] {
        run(&["dmsetup", "message", "own-growing-tpool", "0", message])?;
    }
    run(&["dd", "if=/dev/mapper/own-growing_tmeta", "of=/run/cut", "bs=1M", "iflag=direct", "status=none"])?;
    writer.wait()?;
    load("own-growing_tdata", &table)?;
    volume.unpublish(&device).await?;
    volume.unstage().await?;
    ground.kill()?;
    // So the power cut would have left it.
    let table = run(&["dmsetup", "table", "own-growing_tmeta"])?;
    let seek = format!("seek={}", table.split_whitespace().nth(4).context("no place")?);
    let target = format!("of={}", group.slice()?.device().display());
    lvm(&["vgchange", "--activate", "n", "own"])?;
    run(&["dd", "if=/run/cut", &target, "bs=512", &seek, "conv=notrunc,fsync", "status=none"])?;
    ensure!(lvm(&["lvchange", "--activate", "y", "own/growing"]).is_err(), "lvm's check does not complain");
    ground.start().await?;
    eventually("the pool is active", || async { Ok(status("growing").is_ok()) }).await?;
    ensure!(reasons(ground, &volume).await?.is_empty(), "{:?}", reasons(ground, &volume).await?);
    volume.stage().await?;
    let device = volume.publish("user").await?;
    ensure!(digest_of_first(&device, 4 << 20)? == held, "what was flushed is not there");
    volume.unpublish(&device).await?;
    volume.unstage().await?;
    lvm(&["lvchange", "--activate", "n", "own/growing"])?;
    lvm(&["lvchange", "--activate", "y", "own/growing"]).context("lvm's check still complains")?;
    volume.remove().await?;
    group.remove()
}

async fn made_in_pool(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 320)?;
    for (file_system, most) in [
        // 80 groups of blocks, and a piece with the maps and the first inodes of each; as many again for the superblock's copies.
        ("ext4", 2 * 80),
        // The log, 64 MiB, of which all is written, and the heads of 16 groups with their trees.
        ("xfs", 1_024 + 2 * 16),
        // 2 MiB are zeroed at both ends, and there are two of each tree.
        ("btrfs", 64 + 32),
    ] {
        let volume = ground.volume_in("tight", "own", file_system, 10 << 10, mounted(file_system)).await?;
        volume.stage().await?;
        run(&["sync", "--file-system", &volume.staging()?.to_string_lossy()])?;
        let (taken, _) = data("tight")?;
        println!("        {file_system} on 10 GiB takes {taken} pieces of 64 KiB");
        ensure!(taken > 0 && taken <= most, "{file_system} takes {taken} pieces, more than {most}");
        volume.remove().await?;
        eventually("its room is the pool's again", || async { Ok(data("tight")?.0 == 0) }).await?;
    }
    group.remove()
}

async fn given_back(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let volume = ground.volume_in("growing", "own", "files", 120, mounted("ext4")).await?;
    volume.stage().await?;
    let folder = volume.publish("user").await?;
    let empty = data("growing")?.0;
    ensure!(empty < 160, "mkfs filled {empty} pieces");
    for part in 0..4 {
        file_with(&folder.join(format!("f{part}")), 10 << 20)?;
    }
    let filled = data("growing")?.0;
    ensure!(filled >= empty + 640, "{empty} {filled}");
    for part in 0..4 {
        fs::remove_file(folder.join(format!("f{part}")))?;
    }
    run(&["sync", "--file-system", &folder.to_string_lossy()])?;
    eventually("the pool has its room again", || async { Ok(data("growing")?.0 < empty + 64) }).await?;
    let raw = ground.volume_in("growing", "own", "raw", 40, block()).await?;
    raw.stage().await?;
    write_mib(&raw.publish("user").await?, 0, 20)?;
    ensure!(data("growing")?.0 >= 320);
    raw.remove().await?;
    eventually("so has it of the deleted volume", || async { Ok(data("growing")?.0 < empty + 64) }).await?;
    volume.remove().await?;
    group.remove()
}

async fn passed_down(ground: &Ground) -> Result<()> {
    // What the machine's settings say does not count.
    let settings = LocalSettings::say("allocation/thin_pool_discards = \"nopassdown\"\n")?;
    // The disk of the other cases discards less at once than a pool's piece, so that the kernel passes nothing down to it.
    let file = "/run/passed-down";
    run(&["truncate", "--size", "300M", file])?;
    let disk = run(&["losetup", "--find", "--show", file])?;
    lvm(&["vgcreate", "own", disk.trim()])?;
    let taken = || -> Result<u64> { Ok(fs::metadata(file)?.blocks() / 2048) };
    ground.crash().await?;
    let volume = ground.volume_in("growing", "own", "written", 60, block()).await?;
    drop(settings);
    volume.stage().await?;
    let device = volume.publish("user").await?;
    write_mib(&device, 0, 40)?;
    let full = taken()?;
    ensure!(full >= 40, "{full} MiB");
    run(&["blkdiscard", "--force", &device.to_string_lossy()])?;
    let left = taken()?;
    ensure!(left + 35 < full, "{left} MiB of {full} are left");
    volume.remove().await?;
    Group { name: String::from("own"), slices: Vec::new() }.remove()?;
    run(&["losetup", "--detach", disk.trim()])?;
    Ok(fs::remove_file(file)?)
}

async fn reserve_grows(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let volume = ground.volume_in("little", "own", "source", 64, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    fill(&device)?;
    let (held, taken) = (digest(&device)?, snapshot(ground, &volume, "kept").await?);
    let name = logical_name(&taken)?;
    for mib in 0..40 {
        let before = extents(&name)?;
        write_mib(&device, mib, 1)?;
        if (mib + 1) * 100 >= before * 4 * 70 {
            eventually("its room grew", || async { Ok(extents(&name)? > before) }).await?;
        }
    }
    ensure!(extents(&name)? > 8, "{} extents", extents(&name)?);
    let shown = format!("/dev/own/{name}");
    ensure!(digest(Path::new(&shown))? == held, "the snapshot holds something else");
    ensure!(reasons(ground, &volume).await?.is_empty());
    forget(ground, &taken).await?;
    volume.remove().await?;
    group.remove()
}

async fn reserve_lost(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 74)?;
    let volume = ground.volume_in("little", "own", "source", 64, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    let taken = snapshot(ground, &volume, "lost").await?;
    write_mib(&device, 0, 20)?;
    let is_told = || async { Ok(reasons(ground, &volume).await.is_ok_and(|told| told == ["SnapshotLost"])) };
    // While lvm still tries to grow it its volume is held back for moments.
    eventually("it is told as lost", is_told).await?;
    let request = v1::GetSnapshotRequest { snapshot_id: taken.snapshot_id.clone(), ..Default::default() };
    let answer = answered(ground.client().controller.get_snapshot(request).await)?;
    ensure!(answer.snapshot.is_some_and(|snapshot| !snapshot.ready_to_use), "it is told as good");
    let mut file = OpenOptions::new().write(true).open(&device)?;
    file.write_all(&[7; 4096])?;
    file.sync_all().context("its volume goes on")?;
    drop(file);
    forget(ground, &taken).await?;
    ensure!(reasons(ground, &volume).await?.is_empty());
    volume.remove().await?;
    run(&["udevadm", "settle"])?;
    group.remove()
}

async fn silent(ground: &Ground) -> Result<()> {
    let (group, second) = (ground.group("own", 200)?, ground.group("second", 100)?);
    let volume = ground.volume_in("fixed", "own", "hung", 40, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    // The pool cannot commit any more, and who asks it how it is waits for that.
    run(&["dmsetup", "suspend", "--noflush", "own-fixed_tmeta"])?;
    let target = format!("of={}", device.display());
    let mut writer = Command::new("dd").args(["if=/dev/urandom", "bs=1M", "count=4", "conv=fsync", &target]).spawn()?;
    let while_it_hangs = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        for _ in 0..20 {
            ensure!(capacity_of(ground, "fixed").await? == (0, 0));
        }
        ensure!(reasons(ground, &volume).await? == ["ThinPoolSilent"], "{:?}", reasons(ground, &volume).await?);
        ensure!(storage_reasons(ground).await? == ["ThinPoolSilent"]);
        ensure!(metrics_of("fixed")?.contains("reason=\"ThinPoolSilent\"} 1"));
        let started = Instant::now();
        let other = ground.volume_in("other-thin", "second", "sound", 40, block()).await?;
        other.stage().await?;
        ensure!(capacity_of(ground, "other-thin").await?.0 > 0);
        ensure!(reasons(ground, &other).await?.is_empty());
        other.remove().await?;
        ensure!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        Ok(())
    };
    let seen = while_it_hangs.await;
    run(&["dmsetup", "resume", "own-fixed_tmeta"])?;
    writer.wait()?;
    seen?;
    eventually("it is told as well", || async { Ok(storage_reasons(ground).await?.is_empty()) }).await?;
    ensure!(reasons(ground, &volume).await?.is_empty());
    volume.remove().await?;
    second.remove()?;
    group.remove()
}
