//! Snapshots of a pool's metadata: whose they are, what is read from them, and that none stays.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::FailedPrecondition;

use super::blocks::allocated;
use super::sources::{copy, end, forget, of_snapshot, snapshot};
use crate::client::block;
use crate::inside::check::{Ground, MIB, StandIn, Volume, digest, eventually, fill, lvm, refused, run, write_at};

cases! {
    "a snapshot of the metadata that a killed process left does not stay" => left_behind,
    "one that another program holds is left alone, and copies do without" => of_another,
    "what was read while another program exchanged it is thrown away" => exchanged,
    "a node that is told to end ends a reading at once, and leaves none" => ended,
    "of a volume that shows another one outside of its pool all blocks are copied, and none are told" => external_origin,
}

const POOL: &str = "own-quarry--thin-tpool";

/// Whether one is held.
pub(super) fn is_held() -> Result<bool> {
    let status = run(&["dmsetup", "status", POOL])?;
    // The seventh word: where it is, or nowhere.
    Ok(status.split_whitespace().nth(6).context("no status")? != "-")
}

fn tell(message: &str) -> Result<()> {
    run(&["dmsetup", "message", POOL, "0", message]).map(drop)
}

/// Makes one, or releases the one that there is.
fn hold() -> Result<()> {
    tell("reserve_metadata_snap")
}

fn release() -> Result<()> {
    tell("release_metadata_snap")
}

/// A volume in use with one piece of its pool, and a snapshot of it.
async fn with_a_piece(ground: &Ground) -> Result<(Volume<'_>, v1::Snapshot, Vec<Range<u64>>)> {
    let source = ground.volume_in("thin", "own", "source", 16, block()).await?;
    source.stage().await?;
    write_at(&source.publish("user").await?, 1 << 20, &[1; 4096])?;
    let taken = snapshot(ground, &source, &ground.name("snap")).await?;
    Ok((source, taken, std::iter::once(1 << 20..(1 << 20) + (64 << 10)).collect()))
}

async fn left_behind(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let (source, taken, piece) = with_a_piece(ground).await?;
    ensure!(allocated(ground, &taken, (0, 0)).await?.concat() == piece);
    ensure!(!is_held()?, "it stays after the reading");
    hold()?;
    ground.crash().await?;
    eventually("it is released at the start", || async { Ok(!is_held()?) }).await?;
    // Of a pool that is not active then.
    hold()?;
    ground.kill()?;
    source.unpublish(&source.target("user")?).await.ok();
    run(&["umount", &source.target("user")?.to_string_lossy()])?;
    run(&["udevadm", "settle"])?;
    lvm(&["vgchange", "-qq", "-an", "own"])?;
    ground.start().await?;
    ensure!(allocated(ground, &taken, (0, 0)).await?.concat() == piece);
    ensure!(!is_held()?, "it was in a pool that was not active at the start");
    forget(ground, &taken).await?;
    source.remove().await?;
    end(group)
}

async fn of_another(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let place = ground.volume_in("own", "own", "place", 40, block()).await?;
    let (source, taken, piece) = with_a_piece(ground).await?;
    place.remove().await?;
    hold()?;
    let problem = allocated(ground, &taken, (0, 0)).await.err().context("it was read")?.to_string();
    ensure!(problem.starts_with("Unavailable") && problem.contains("release_metadata_snap"), "{problem}");
    ensure!(is_held()?, "it was released");
    let made = copy(ground, "left", of_snapshot(&taken), 16 * MIB, &source).await?;
    ensure!(is_held()?, "it was released for a copy");
    made.stage().await?;
    ensure!(digest(&made.publish("user").await?)? == digest(&source.target("user")?)?, "not what was there");
    made.remove().await?;
    release()?;
    ensure!(allocated(ground, &taken, (0, 0)).await?.concat() == piece);
    forget(ground, &taken).await?;
    source.remove().await?;
    end(group)
}

async fn exchanged(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let (source, taken, piece) = with_a_piece(ground).await?;
    let tools = StandIn::hanging_thin_tools()?;
    let (read, ()) = tokio::try_join!(async { Ok(allocated(ground, &taken, (0, 0)).await) }, async {
        eventually("it is being read", || async { is_held() }).await?;
        release()?;
        hold()?;
        tools.release();
        Ok::<_, anyhow::Error>(())
    })?;
    let problem = read.err().context("it counts as read")?.to_string();
    ensure!(problem.starts_with("Unavailable") && problem.contains("another program"), "{problem}");
    ensure!(is_held()?, "the other program's was released");
    release()?;
    ensure!(allocated(ground, &taken, (0, 0)).await?.concat() == piece);
    forget(ground, &taken).await?;
    source.remove().await?;
    end(group)
}

async fn ended(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let (source, taken, piece) = with_a_piece(ground).await?;
    let tools = StandIn::hanging_thin_tools()?;
    let (read, took) = tokio::try_join!(async { Ok(allocated(ground, &taken, (0, 0)).await) }, async {
        eventually("it is being read", || async { is_held() }).await?;
        let told = Instant::now();
        ground.terminate()?;
        ground.ended().await?;
        Ok::<_, anyhow::Error>(told.elapsed())
    })?;
    let problem = read.err().context("it counts as read")?.to_string();
    ensure!(problem.starts_with("Unavailable") && problem.contains("the node is ending"), "{problem}");
    // Its patience is 4 s.
    ensure!(took < Duration::from_millis(3_900), "it ended after {took:?}");
    ensure!(!is_held()?, "it stays");
    drop(tools);
    ground.start().await?;
    ensure!(allocated(ground, &taken, (0, 0)).await?.concat() == piece);
    forget(ground, &taken).await?;
    source.remove().await?;
    end(group)
}

async fn external_origin(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let place = ground.volume_in("own", "own", "place", 80, block()).await?;
    let source = ground.volume_in("thin", "own", "source", 16, block()).await?;
    source.stage().await?;
    source.unstage().await?;
    place.remove().await?;
    // An administrator puts one in its place that shows a volume which is only read.
    lvm(&["lvcreate", "-qq", "-y", "-Wn", "-Zn", "-L", "16M", "-n", "base", "own"])?;
    run(&["udevadm", "settle"])?;
    fill(Path::new("/dev/own/base"))?;
    run(&["udevadm", "settle"])?;
    lvm(&["lvchange", "-qq", "-an", "own/base"])?;
    lvm(&["lvchange", "-qq", "-pr", "own/base"])?;
    let tags = source.tags()?;
    lvm(&["lvremove", "-qq", "-y", &source.full_name()])?;
    lvm(&["lvcreate", "-qq", "-y", "-kn", "-s", "own/base", "--thinpool", "quarry-thin", "-n", source.logical_name()])?;
    for tag in tags.trim().split(',') {
        lvm(&["lvchange", "-qq", "--addtag", tag, &source.full_name()])?;
    }
    source.stage().await?;
    let device = source.publish("user").await?;
    write_at(&device, 3 << 20, &[9; 4096])?;
    let held = digest(&device)?;
    let taken = snapshot(ground, &source, &ground.name("snap")).await?;
    let snapshot_id = taken.snapshot_id.clone();
    let asked = v1::GetMetadataAllocatedRequest { snapshot_id, ..v1::GetMetadataAllocatedRequest::default() };
    let answer = ground.client().metadata.get_metadata_allocated(asked).await;
    refused(answer, FailedPrecondition, &["external origin"])?;
    ensure!(!is_held()?);
    for class in ["left", "thin"] {
        let made = copy(ground, class, of_snapshot(&taken), 16 * MIB, &source).await.context(class)?;
        made.stage().await?;
        ensure!(digest(&made.publish("user").await?)? == held, "{class}: not what was there");
        made.remove().await?;
    }
    forget(ground, &taken).await?;
    source.remove().await?;
    lvm(&["lvremove", "-qq", "-y", "own/base"])?;
    end(group)
}
