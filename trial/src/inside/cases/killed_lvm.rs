//! What lvm leaves in a pool or a snapshot that is killed in the middle is put right.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::pools::{data, extents, status, write_mib};
use super::sources::{forget, logical_name, snapshot};
use crate::client::block;
use crate::inside::check::{Ground, digest, digest_of_first, eventually, fill, lvm, run};

cases! {
    "a snapshot that lvm noted but the pool never took is taken by the repeated call" => pending,
    "a snapshot that is deleted while lvm takes its last message for sent leaves its pool" => untold,
    "what lvm gave a pool before it was killed the kernel gets when that fills" => pool_behind,
    "what lvm gave a snapshot before it was killed the kernel gets when that fills" => reserve_behind,
}

/// The number of a volume within its pool.
pub(super) fn thin_id(logical: &str) -> Result<u64> {
    Ok(lvm(&["lvs", "--noheadings", "--options", "thin_id", &format!("own/{logical}")])?.trim().parse()?)
}

/// Has lvm's metadata say that a message to the pool may still have to be sent, as a command does that is killed.
fn note_message(pool: &str, message: &str) -> Result<()> {
    let count = lvm(&["lvs", "--noheadings", "--options", "transaction_id", &format!("own/{pool}")])?;
    let count = format!("transaction_id = {}", count.trim());
    lvm(&["vgcfgbackup", "--file", "/run/noted", "own"])?;
    let metadata = fs::read_to_string("/run/noted")?;
    ensure!(metadata.matches(&count).count() >= 1, "{metadata}");
    // The pool's own count stands first: it is older than its volumes.
    fs::write("/run/noted", metadata.replacen(&count, &format!("{count}\nmessage1 {{\n{message}\n}}"), 1))?;
    lvm(&["vgcfgrestore", "--yes", "--force", "--file", "/run/noted", "own"]).map(drop)
}

async fn pending(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let volume = ground.volume_in("growing", "own", "source", 40, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    write_mib(&device, 0, 4)?;
    let first = snapshot(ground, &volume, "first").await?;
    let logical = logical_name(&first)?;
    // The pool forgets it: the state that a kill leaves.
    let pool = "own-growing-tpool";
    let transaction: u64 = status("growing")?.get(3).context("no count")?.parse()?;
    let thin_id = thin_id(&logical)?;
    run(&["dmsetup", "message", pool, "0", &format!("delete {thin_id}")])?;
    run(&["dmsetup", "message", pool, "0", &format!("set_transaction_id {transaction} {}", transaction - 1)])?;
    note_message("growing", &format!("create = \"{logical}\""))?;
    let held = digest_of_first(&device, 4 << 20)?;
    let again = snapshot(ground, &volume, "first").await?;
    ensure!(again.snapshot_id == first.snapshot_id);
    write_mib(&device, 0, 4)?;
    lvm(&["lvchange", "--activate", "y", "--ignoreactivationskip", &format!("own/{logical}")])?;
    let seen = digest_of_first(Path::new(&format!("/dev/own/{logical}")), 4 << 20)?;
    lvm(&["lvchange", "--activate", "n", &format!("own/{logical}")])?;
    ensure!(seen == held, "the snapshot holds something else");
    forget(ground, &again).await?;
    volume.remove().await?;
    group.remove()
}

async fn untold(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let volume = ground.volume_in("growing", "own", "source", 40, block()).await?;
    volume.stage().await?;
    volume.publish("user").await?;
    let (first, second) = (snapshot(ground, &volume, "first").await?, snapshot(ground, &volume, "second").await?);
    let (gone, kept) = (thin_id(&logical_name(&first)?)?, thin_id(&logical_name(&second)?)?);
    note_message("growing", &format!("create = \"{}\"", logical_name(&second)?))?;
    forget(ground, &first).await?;
    let pool = "own-growing-tpool";
    run(&["dmsetup", "message", pool, "0", "reserve_metadata_snap"])?;
    let there =
        run(&["thin_ls", "--metadata-snap", "--no-headers", "--format", "DEV", "/dev/mapper/own-growing_tmeta"]);
    run(&["dmsetup", "message", pool, "0", "release_metadata_snap"])?;
    let there = there?;
    let ids: Vec<u64> = there.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(!ids.contains(&gone) && ids.contains(&kept), "{gone} is to be gone, {kept} to be kept: {ids:?}");
    forget(ground, &second).await?;
    volume.remove().await?;
    group.remove()
}

async fn pool_behind(ground: &Ground) -> Result<()> {
    // 26 extents: 16 of data, metadata and its spare, and the 8 that lvm gives.
    let group = ground.group("own", 108)?;
    let volume = ground.volume_in("growing", "own", "filling", 100, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    lvm(&["vgcfgbackup", "--file", "/run/behind", "own"])?;
    let metadata = fs::read_to_string("/run/behind")?;
    let (before, data_volume) = metadata.split_once("growing_tdata {").context("no data")?;
    let more = "segment2 {\nstart_extent = 16\nextent_count = 8\ntype = \"striped\"\nstripe_count = 1\n\
                stripes = [\n\"pv0\", 18\n]\n}\n";
    let end = data_volume.find(']').and_then(|at| Some(at + data_volume[at..].find('}')? + 2)).context("no segment")?;
    let (first, rest) = data_volume.split_at(end);
    let first = first.replacen("segment_count = 1", "segment_count = 2", 1);
    let (head, pool) = before.split_once("growing {").context("no pool")?;
    let pool = pool.replacen("extent_count = 16", "extent_count = 24", 1);
    fs::write("/run/behind", format!("{head}growing {{{pool}growing_tdata {{{first}{more}{rest}"))?;
    lvm(&["vgcfgrestore", "--yes", "--force", "--file", "/run/behind", "own"])?;
    ensure!((extents("growing")?, data("growing")?.1) == (24, 1024), "{} {:?}", extents("growing")?, data("growing")?);
    write_mib(&device, 0, 50)?;
    eventually("the pool has all", || async { Ok(data("growing")?.1 == 1536) }).await?;
    write_mib(&device, 50, 15)?;
    volume.remove().await?;
    group.remove()
}

async fn reserve_behind(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let volume = ground.volume_in("little", "own", "source", 40, block()).await?;
    volume.stage().await?;
    let device = volume.publish("user").await?;
    fill(&device)?;
    let (held, taken) = (digest(&device)?, snapshot(ground, &volume, "kept").await?);
    let name = logical_name(&taken)?;
    // As much as lvm gives, so that nothing else would load it.
    lvm(&["lvextend", "--config", "global/activation=0", "--extents", "100", &format!("own/{name}")])?;
    ensure!(extents(&name)? == 11, "{} extents", extents(&name)?);
    let room = || run(&["dmsetup", "status", &format!("own-{}", name.replace('-', "--"))]);
    ensure!(room()?.contains("/8192 "), "{}", room()?);
    write_mib(&device, 0, 3)?;
    eventually("the snapshot has all", || async { Ok(room()?.contains("/90112 ")) }).await?;
    write_mib(&device, 3, 37)?;
    ensure!(digest(Path::new(&format!("/dev/own/{name}")))? == held, "the snapshot holds something else");
    forget(ground, &taken).await?;
    volume.remove().await?;
    group.remove()
}
