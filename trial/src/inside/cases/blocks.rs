//! Allocated and changed blocks of thin snapshots: what a backup is made of.

use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use quarry::csi::v1::plugin_capability::{Type, service};
use tonic::Code::{FailedPrecondition, InvalidArgument, NotFound, OutOfRange};

use super::pool_metadata::is_held;
use super::sources::{copy, end, forget, of_snapshot, snapshot};
use crate::client::block;
use crate::inside::check::{Ground, MIB, Volume, answered, lvm, refused, run, write_at};

/// Bytes of the volumes.
const BYTES: u64 = 64 << 20;

cases! {
    "a snapshot is rebuilt from an earlier one and what changed, and from what is allocated" => rebuilt,
    "changed blocks go on from where they were cut off" => resumed,
    "no message has more blocks than are asked for, and an empty snapshot has none" => messages,
    "blocks of what is missing, thick or of another volume are refused" => refusals,
    "the blocks of a pool that is not active are told, and two at a time can ask" => inactive,
}

/// The device of a snapshot, active until dropped.
struct Shown(String);

impl Shown {
    fn new(snapshot: &v1::Snapshot) -> Result<Self> {
        let name = snapshot.snapshot_id.split_once('/').context("no id")?.1;
        let shown = Self(format!("own/{name}"));
        lvm(&["lvchange", "-qq", "-ay", "-K", &shown.0])?;
        run(&["udevadm", "settle"])?;
        Ok(shown)
    }

    fn read(&self) -> Result<Vec<u8>> {
        Ok(fs::read(PathBuf::from(format!("/dev/{}", self.0)))?)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        drop((run(&["udevadm", "settle"]), lvm(&["lvchange", "-qq", "-an", &self.0])));
    }
}

/// What a snapshot holds.
fn held(snapshot: &v1::Snapshot) -> Result<Vec<u8>> {
    Shown::new(snapshot)?.read()
}

fn ranges(blocks: &[v1::BlockMetadata]) -> Result<Vec<Range<u64>>> {
    let range = |block: &v1::BlockMetadata| {
        let (start, length) = (u64::try_from(block.byte_offset)?, u64::try_from(block.size_bytes)?);
        Ok(start..start + length)
    };
    blocks.iter().map(range).collect()
}

/// That they are as a stream must have them, of a volume of that size.
fn ensure_in_order(ranges: &[Range<u64>], bytes: u64) -> Result<()> {
    ensure!(ranges.iter().all(|range| !range.is_empty()), "an empty one: {ranges:?}");
    ensure!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "not in order: {ranges:?}");
    ensure!(ranges.last().is_none_or(|last| last.end <= bytes), "beyond the end: {ranges:?}");
    Ok(())
}

/// Messages of the changed blocks, at most so many.
async fn changed(
    ground: &Ground,
    [base, target]: [&v1::Snapshot; 2],
    (start, most, messages): (u64, i32, usize),
) -> Result<Vec<Vec<Range<u64>>>> {
    let request = v1::GetMetadataDeltaRequest {
        base_snapshot_id: base.snapshot_id.clone(),
        target_snapshot_id: target.snapshot_id.clone(),
        starting_offset: i64::try_from(start)?,
        max_results: most,
        ..v1::GetMetadataDeltaRequest::default()
    };
    let mut stream = answered(ground.client().metadata.get_metadata_delta(request).await)?;
    let mut found = Vec::new();
    while found.len() < messages
        && let Some(message) = stream.message().await?
    {
        ensure!(message.block_metadata_type() == v1::BlockMetadataType::VariableLength);
        ensure!(message.volume_capacity_bytes == target.size_bytes, "{}", message.volume_capacity_bytes);
        found.push(ranges(&message.block_metadata)?);
    }
    Ok(found)
}

pub(super) async fn allocated(
    ground: &Ground,
    of: &v1::Snapshot,
    (start, most): (u64, i32),
) -> Result<Vec<Vec<Range<u64>>>> {
    let request = v1::GetMetadataAllocatedRequest {
        snapshot_id: of.snapshot_id.clone(),
        starting_offset: i64::try_from(start)?,
        max_results: most,
        ..v1::GetMetadataAllocatedRequest::default()
    };
    let mut stream = answered(ground.client().metadata.get_metadata_allocated(request).await)?;
    let mut found = Vec::new();
    while let Some(message) = stream.message().await? {
        ensure!(message.block_metadata_type() == v1::BlockMetadataType::VariableLength);
        ensure!(message.volume_capacity_bytes == of.size_bytes, "{}", message.volume_capacity_bytes);
        found.push(ranges(&message.block_metadata)?);
    }
    Ok(found)
}

/// Writes to a device until dropped.
struct Scribbling(std::sync::Arc<AtomicBool>, Option<thread::JoinHandle<()>>);

impl Scribbling {
    fn on(device: &Path) -> Result<Self> {
        let (file, going) = (OpenOptions::new().write(true).open(device)?, std::sync::Arc::new(AtomicBool::new(true)));
        let goes_on = std::sync::Arc::clone(&going);
        let work = move || {
            let mut number = 0_u64;
            while goes_on.load(Ordering::Relaxed) {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let written =
                    file.write_all_at(&number.to_le_bytes().repeat(512), (number >> 20) % (BYTES / 4096) * 4096);
                if written.and_then(|()| file.sync_data()).is_err() {
                    return;
                }
            }
        };
        Ok(Self(going, Some(thread::spawn(work))))
    }
}

impl Drop for Scribbling {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
        self.1.take().map(thread::JoinHandle::join);
    }
}

fn discard(device: &Path, offset: u64, length: u64) -> Result<()> {
    let (offset, length) = (offset.to_string(), length.to_string());
    run(&["blkdiscard", "-o", &offset, "-l", &length, &device.to_string_lossy()]).map(drop)
}

/// A volume with some content, its device, and a snapshot of it before and after changes of all kinds.
async fn changed_volume(ground: &Ground) -> Result<(Volume<'_>, PathBuf, [v1::Snapshot; 2])> {
    let source = ground.volume_in("thin", "own", "source", 64, block()).await?;
    source.stage().await?;
    let device = source.publish("user").await?;
    for (at, mib, byte) in [(0, 10, 1), (16, 8, 2), (40, 4, 3)] {
        write_at(&device, at << 20, &vec![byte; mib << 20])?;
    }
    let before = snapshot(ground, &source, &ground.name("snap")).await?;
    write_at(&device, 5 << 20, &[4; 4096])?;
    write_at(&device, (30 << 20) + 512, &vec![5; 300_000])?;
    write_at(&device, BYTES - 4096, &[6; 4096])?;
    for number in 0..30 {
        write_at(&device, (17 << 20) + number * (128 << 10), &[7; 512])?;
    }
    // What was there is not there any more.
    discard(&device, 41 << 20, 1 << 20)?;
    discard(&device, 2 << 20, 128 << 10)?;
    let after = snapshot(ground, &source, &ground.name("snap")).await?;
    Ok((source, device, [before, after]))
}

fn put(image: &mut [u8], of: &[u8], ranges: &[Range<u64>]) -> Result<()> {
    for range in ranges {
        let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
        image[range.clone()].copy_from_slice(&of[range]);
    }
    Ok(())
}

pub(super) async fn rebuilt(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let capabilities =
        answered(ground.client().identity.get_plugin_capabilities(v1::GetPluginCapabilitiesRequest {}).await)?;
    ensure!(capabilities.capabilities.iter().any(|capability| matches!(&capability.r#type,
        Some(Type::Service(offered)) if offered.r#type() == service::Type::SnapshotMetadataService)));
    let (source, device, [before, after]) = changed_volume(ground).await?;
    let scribbling = Scribbling::on(&device)?;
    let (old, new) = (held(&before)?, held(&after)?);
    ensure!(old != new);
    let delta = changed(ground, [&before, &after], (0, 0, 99)).await?.concat();
    ensure_in_order(&delta, BYTES)?;
    let bytes: u64 = delta.iter().map(|range| range.end - range.start).sum();
    ensure!(bytes < BYTES / 8, "{bytes} bytes count as changed: {delta:?}");
    let mut image = old.clone();
    put(&mut image, &new, &delta)?;
    ensure!(image == new, "the later one is not rebuilt");
    // Backwards as well: nobody says which was first.
    let back = changed(ground, [&after, &before], (0, 0, 99)).await?.concat();
    put(&mut image, &old, &back)?;
    ensure!(image == old, "the earlier one is not rebuilt");
    for (of, content) in [(&before, &old), (&after, &new)] {
        let all = allocated(ground, of, (0, 0)).await?.concat();
        ensure_in_order(&all, BYTES)?;
        let bytes: u64 = all.iter().map(|range| range.end - range.start).sum();
        ensure!(bytes < BYTES / 2, "{bytes} bytes count as allocated: {all:?}");
        let mut image = vec![0; content.len()];
        put(&mut image, content, &all)?;
        ensure!(image == *content, "not rebuilt from what is allocated");
    }
    drop(scribbling);
    // Of a volume that was grown in between.
    answered(
        ground
            .client()
            .controller
            .controller_expand_volume(v1::ControllerExpandVolumeRequest {
                volume_id: source.id.clone(),
                capacity_range: Some(v1::CapacityRange { required_bytes: 80 * MIB, limit_bytes: 0 }),
                ..v1::ControllerExpandVolumeRequest::default()
            })
            .await,
    )?;
    write_at(&device, 79 << 20, &[9; 4096])?;
    let grown = snapshot(ground, &source, &ground.name("snap")).await?;
    let (delta, new) = (changed(ground, [&after, &grown], (0, 0, 99)).await?.concat(), held(&grown)?);
    image = held(&after)?;
    image.resize(new.len(), 0);
    put(&mut image, &new, &delta)?;
    ensure!(image == new && new.len() == 80 << 20, "the grown one is not rebuilt");
    for snapshot in [&before, &after, &grown] {
        forget(ground, snapshot).await?;
    }
    source.remove().await?;
    end(group)
}

pub(super) async fn resumed(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let (source, _device, [before, after]) = changed_volume(ground).await?;
    let all = changed(ground, [&before, &after], (0, 0, 99)).await?.concat();
    ensure!(all.len() > 20, "{all:?}");
    let (mut found, mut start) = (Vec::new(), 0);
    loop {
        // Cut off after three messages.
        let more = changed(ground, [&before, &after], (start, 2, 3)).await?.concat();
        let Some(last) = more.last() else { break };
        start = last.end;
        found.extend(more);
    }
    ensure!(found == all, "{found:?} instead of {all:?}");
    let middle = all.iter().find(|range| range.end - range.start > 128 << 10).context("no large range")?;
    let from = middle.start + (64 << 10);
    let rest = changed(ground, [&before, &after], (from, 0, 99)).await?.concat();
    ensure!(rest.first() == Some(&(from..middle.end)), "{rest:?}");
    let held = allocated(ground, &after, (0, 0)).await?.concat();
    let rest = allocated(ground, &after, (20 << 20, 0)).await?.concat();
    let expected: Vec<Range<u64>> = held.iter().map(|range| range.start.max(20 << 20)..range.end).collect();
    ensure!(rest == expected.into_iter().filter(|range| !range.is_empty()).collect::<Vec<_>>(), "{rest:?} of {held:?}");
    forget(ground, &before).await?;
    forget(ground, &after).await?;
    source.remove().await?;
    end(group)
}

async fn messages(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let (source, _device, [before, after]) = changed_volume(ground).await?;
    for most in [1, 7, 1_000] {
        let found = changed(ground, [&before, &after], (0, most, 999)).await?;
        ensure!(
            found.iter().all(|message| i32::try_from(message.len()).is_ok_and(|count| (1..=most).contains(&count)))
        );
        let found = allocated(ground, &after, (0, most)).await?;
        ensure!(
            found.iter().all(|message| i32::try_from(message.len()).is_ok_and(|count| (1..=most).contains(&count)))
        );
    }
    let nothing = [Vec::<Range<u64>>::new()];
    ensure!(changed(ground, [&after, &after], (0, 0, 9)).await? == nothing, "it differs from itself");
    ensure!(changed(ground, [&before, &after], (BYTES, 0, 9)).await? == nothing, "something is behind the end");
    let empty = ground.volume_in("thin", "own", "empty", 16, block()).await?;
    let taken = snapshot(ground, &empty, &ground.name("snap")).await?;
    ensure!(allocated(ground, &taken, (0, 0)).await? == nothing, "nothing was ever written to it");
    for snapshot in [&before, &after, &taken] {
        forget(ground, snapshot).await?;
    }
    empty.remove().await?;
    source.remove().await?;
    end(group)
}

async fn refusals(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 500)?;
    let thick = ground.volume_in("own", "own", "thick", 16, block()).await?;
    let kept = snapshot(ground, &thick, &ground.name("snap")).await?;
    let source = ground.volume_in("thin", "own", "source", 16, block()).await?;
    let taken = snapshot(ground, &source, &ground.name("snap")).await?;
    let clone = copy(ground, "thin", of_snapshot(&taken), 16 * MIB, &source).await?;
    let other = snapshot(ground, &clone, &ground.name("snap")).await?;
    let allocated = |id: &str, starting_offset| v1::GetMetadataAllocatedRequest {
        snapshot_id: id.to_owned(),
        starting_offset,
        ..v1::GetMetadataAllocatedRequest::default()
    };
    let delta = |base: &str, target: &str| v1::GetMetadataDeltaRequest {
        base_snapshot_id: base.to_owned(),
        target_snapshot_id: target.to_owned(),
        ..v1::GetMetadataDeltaRequest::default()
    };
    let mut client = ground.client().metadata;
    for (id, start, code, told) in [
        ("", 0, InvalidArgument, "snapshot_id"),
        ("lab-node/snap-none", 0, NotFound, "snap-none"),
        ("other-node/snap-1", 0, NotFound, "snap-1"),
        (&source.id, 0, NotFound, &source.id),
        (&kept.snapshot_id, 0, FailedPrecondition, "of thin ones only"),
        (&taken.snapshot_id, 16 * MIB + 1, OutOfRange, "16777216"),
        (&taken.snapshot_id, -1, OutOfRange, "negative"),
    ] {
        refused(client.get_metadata_allocated(allocated(id, start)).await, code, &[told]).context(id.to_owned())?;
    }
    let (taken_id, other_id, kept_id) = (&taken.snapshot_id, &other.snapshot_id, &kept.snapshot_id);
    for (base, target, code, told) in [
        (taken_id.as_str(), "", InvalidArgument, "target_snapshot_id"),
        ("", taken_id, InvalidArgument, "base_snapshot_id"),
        (taken_id, "lab-node/snap-none", NotFound, "snap-none"),
        ("lab-node/snap-none", taken_id, NotFound, "snap-none"),
        (taken_id, other_id, InvalidArgument, "base_snapshot_id: is of volume"),
        (kept_id, taken_id, FailedPrecondition, "of thin ones only"),
    ] {
        refused(client.get_metadata_delta(delta(base, target)).await, code, &[told])
            .context(format!("{base} {target}"))?;
    }
    for snapshot in [&kept, &taken, &other] {
        forget(ground, snapshot).await?;
    }
    for volume in [clone, source, thick] {
        volume.remove().await?;
    }
    end(group)
}

async fn inactive(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let (source, device, [before, after]) = changed_volume(ground).await?;
    let delta = changed(ground, [&before, &after], (0, 0, 99)).await?;
    source.unpublish(&device).await?;
    source.unstage().await?;
    run(&["udevadm", "settle"])?;
    lvm(&["vgchange", "-qq", "-an", "own"])?;
    ensure!(changed(ground, [&before, &after], (0, 0, 99)).await? == delta, "it is not the same");
    let calls = (
        changed(ground, [&before, &after], (0, 1, 99)),
        allocated(ground, &before, (0, 1)),
        changed(ground, [&before, &after], (0, 0, 99)),
    );
    let (one, two, three) = tokio::join!(calls.0, calls.1, calls.2);
    ensure!(one?.concat() == delta.concat() && !two?.is_empty() && three? == delta);
    ensure!(!is_held()?);
    forget(ground, &before).await?;
    forget(ground, &after).await?;
    source.remove().await?;
    end(group)
}
