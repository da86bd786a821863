//! Snapshots, and volumes made of them and of volumes: of thick ones and of thin ones.

use std::fs;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use quarry::csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use tonic::Code::{Aborted, AlreadyExists, FailedPrecondition, NotFound, OutOfRange, ResourceExhausted};

use crate::client::{block, mounted};
use crate::inside::check::{
    Ground, MIB, Volume, answered, are_zero, comfortable, digest, digest_of_first, fill, lvm, refused, run, write_at,
};

/// The class of each layout.
const LAYOUTS: [&str; 2] = ["own", "thin"];

cases! {
    "a volume of a snapshot has what was there then, beside its source" => restored,
    "a clone of a volume in use has what was there then, and both go on" => cloned,
    "a copy of a raw block volume is equal to it, and may be larger" => raw,
    "the file system of a larger copy is as large as the copy" => larger,
    "a copy into another layout is equal, both ways" => other_layout,
    "a copy of a volume that was never used is not formatted" => never_used,
    "snapshots of thin volumes, their sources and their copies go in any order" => any_order,
    "a thick volume with a snapshot is not deleted before that, and goes by itself after it" => thick_order,
    "a thick volume with a snapshot does not grow until that is gone" => thick_growth,
    "a thick snapshot whose reserve is full is told as lost, and nothing is made of it" => lost,
    "what a thick snapshot kept is unreadable in the next volume" => unreadable,
    "a snapshot says where it is and how large, and keeps its time" => facts,
    "the same name with another source is refused" => other_source,
    "a source that is missing, elsewhere or too large is refused" => bad_sources,
    "a copy that a crash cut off is whole after the repeated call" => crashed,
    "a repeated call for another size leaves a copy as it is" => other_size,
    "a snapshot whose name looks like that of a copy's source is left alone" => like_a_copy_source,
    "a copy with another file system than its source is refused before it is made" => other_file_system,
    "a copy that was used as a raw device is not written to by a later mount" => raw_then_mounted,
    "a thick copy without room for what it is copied from leaves nothing" => no_room,
    "the name of a deleted snapshot can be used again, at the latest a moment later" => name_again,
    "what a broken off snapshot left is removed, and so is what no copy is made of any more" => left_behind,
    "a copy of a thick volume that nobody used shows nothing of an earlier tenant" => earlier_tenant,
    "a thin pool takes no more than was promised" => promised,
    "a snapshot that hangs leaves no device suspended" => nothing_suspended,
}

pub(super) async fn snapshot(ground: &Ground, volume: &Volume<'_>, name: &str) -> Result<v1::Snapshot> {
    let request = v1::CreateSnapshotRequest {
        name: name.to_owned(),
        source_volume_id: volume.id.clone(),
        ..v1::CreateSnapshotRequest::default()
    };
    let answer = answered(ground.client().controller.create_snapshot(request).await).context("a snapshot")?;
    let snapshot = answer.snapshot.context("no snapshot in the answer")?;
    ensure!(snapshot.ready_to_use);
    Ok(snapshot)
}

/// The logical volume of a snapshot.
pub(super) fn logical_name(snapshot: &v1::Snapshot) -> Result<String> {
    Ok(snapshot.snapshot_id.rsplit('/').next().context("a name")?.to_owned())
}

pub(super) async fn forget(ground: &Ground, snapshot: &v1::Snapshot) -> Result<()> {
    let snapshot_id = snapshot.snapshot_id.clone();
    let request = v1::DeleteSnapshotRequest { snapshot_id, ..v1::DeleteSnapshotRequest::default() };
    answered(ground.client().controller.delete_snapshot(request).await).context("deleting a snapshot").map(drop)
}

pub(super) fn of_snapshot(snapshot: &v1::Snapshot) -> Type {
    Type::Snapshot(SnapshotSource { snapshot_id: snapshot.snapshot_id.clone() })
}

pub(super) fn of_volume(volume: &Volume<'_>) -> Type {
    Type::Volume(VolumeSource { volume_id: volume.id.clone() })
}

pub(super) fn request(
    ground: &Ground,
    class: &str,
    source: Type,
    bytes: i64,
    capability: v1::VolumeCapability,
) -> v1::CreateVolumeRequest {
    let source = v1::VolumeContentSource { r#type: Some(source) };
    let request = ground.request(class, &ground.name("copy"), bytes, capability);
    v1::CreateVolumeRequest { volume_content_source: Some(source), ..request }
}

/// A volume of a class made of a source, of so many bytes.
pub(super) async fn copy<'g>(
    ground: &'g Ground,
    class: &str,
    source: Type,
    bytes: i64,
    like: &Volume<'_>,
) -> Result<Volume<'g>> {
    let request = request(ground, class, source, bytes, like.capability.clone());
    let wanted = request.volume_content_source.clone();
    let answer = answered(ground.client().controller.create_volume(request.clone()).await).context("a copy")?;
    ensure!(answer.volume.as_ref().is_some_and(|volume| volume.content_source == wanted));
    // The same once more finds it.
    ground.volume_from(request, "own").await
}

/// The group goes with the pool in it, and what is still being wiped.
pub(super) fn end(group: crate::inside::check::Group) -> Result<()> {
    run(&["udevadm", "settle"])?;
    group.remove()
}

async fn restored(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        for file_system in ["ext4", "xfs", "btrfs"] {
            let group = ground.group("own", 1_500)?;
            let mib = comfortable(file_system);
            let source = ground.volume_in(class, "own", "source", mib, mounted(file_system)).await?;
            source.stage().await?;
            let folder = source.publish("user").await?;
            fs::write(folder.join("before"), "before")?;
            let taken =
                snapshot(ground, &source, &ground.name("snap")).await.context(format!("{class} {file_system}"))?;
            fs::write(folder.join("after"), "after")?;
            let made = copy(ground, class, of_snapshot(&taken), mib * MIB, &source).await?;
            made.stage().await.context(format!("{class} {file_system}"))?;
            let seen = made.publish("user").await?;
            ensure!(fs::read_to_string(seen.join("before"))? == "before", "{class} {file_system}");
            ensure!(!seen.join("after").try_exists()?, "{class} {file_system}: written after the snapshot");
            fs::write(seen.join("own"), "own")?;
            ensure!(!folder.join("own").try_exists()? && folder.join("after").try_exists()?);
            made.remove().await?;
            forget(ground, &taken).await?;
            source.remove().await?;
            end(group)?;
        }
    }
    Ok(())
}

async fn cloned(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let group = ground.group("own", 400)?;
        let source = ground.volume_in(class, "own", "source", 64, mounted("ext4")).await?;
        source.stage().await?;
        let folder = source.publish("user").await?;
        fs::write(folder.join("before"), "before")?;
        let made = copy(ground, class, of_volume(&source), 64 * MIB, &source).await?;
        fs::write(folder.join("after"), "after")?;
        made.stage().await?;
        let seen = made.publish("user").await?;
        ensure!(fs::read_to_string(seen.join("before"))? == "before" && !seen.join("after").try_exists()?, "{class}");
        source.remove().await?;
        ensure!(fs::read_to_string(seen.join("before"))? == "before", "{class}: without its source");
        made.remove().await?;
        end(group)?;
    }
    Ok(())
}

async fn raw(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let group = ground.group("own", 400)?;
        let source = ground.volume_in(class, "own", "source", 40, block()).await?;
        source.stage().await?;
        let device = source.publish("user").await?;
        fill(&device)?;
        let (held, taken) = (digest(&device)?, snapshot(ground, &source, &ground.name("snap")).await?);
        write_at(&device, 8 << 20, &[0; 4096])?;
        let made = copy(ground, class, of_snapshot(&taken), 48 * MIB, &source).await?;
        ensure!(made.bytes == 48 * MIB);
        made.stage().await?;
        let seen = made.publish("user").await?;
        ensure!(digest_of_first(&seen, 40 << 20)? == held, "{class}: not what was there then");
        made.remove().await?;
        forget(ground, &taken).await?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}

async fn larger(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let group = ground.group("own", 600)?;
        let source = ground.volume_in(class, "own", "source", 64, mounted("ext4")).await?;
        source.stage().await?;
        fs::write(source.publish("user").await?.join("f"), "data")?;
        let taken = snapshot(ground, &source, &ground.name("snap")).await?;
        let made = copy(ground, class, of_snapshot(&taken), 200 * MIB, &source).await?;
        made.stage().await?;
        let seen = made.publish("user").await?;
        let blocks: i64 = run(&["stat", "-f", "-c", "%b", &seen.to_string_lossy()])?.parse()?;
        let size: i64 = run(&["stat", "-f", "-c", "%S", &seen.to_string_lossy()])?.parse()?;
        ensure!(blocks * size > 170 * MIB, "{class}: {blocks} blocks of {size} bytes");
        ensure!(fs::read_to_string(seen.join("f"))? == "data");
        made.remove().await?;
        forget(ground, &taken).await?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}

async fn other_layout(ground: &Ground) -> Result<()> {
    for [class, other] in [["own", "thin"], ["thin", "own"]] {
        let group = ground.group("own", 600)?;
        // The pool takes what is left, so thick volumes come first; this one only makes room for the other.
        let place = ground.volume_in("own", "own", "place", 80, block()).await?;
        let source = ground.volume_in(class, "own", "source", 40, block()).await?;
        if class == "own" {
            ground.volume_in("thin", "own", "pool", 4, block()).await?.remove().await?;
        }
        place.remove().await?;
        source.stage().await?;
        let device = source.publish("user").await?;
        fill(&device)?;
        let held = digest(&device)?;
        let made = copy(ground, other, of_volume(&source), 40 * MIB, &source).await?;
        made.stage().await?;
        ensure!(digest(&made.publish("user").await?)? == held, "from {class} to {other}");
        made.remove().await?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}

async fn never_used(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let group = ground.group("own", 300)?;
        let source = ground.volume_in(class, "own", "source", 32, mounted("ext4")).await?;
        let made = copy(ground, class, of_volume(&source), 32 * MIB, &source).await?;
        let answer = ground.client().node.node_stage_volume(made.stage_request()?).await;
        refused(answer, FailedPrecondition, &["is a copy of", "copies are not formatted"])?;
        made.remove().await?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}

async fn any_order(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 600)?;
    let source = ground.volume_in("thin", "own", "source", 40, block()).await?;
    source.stage().await?;
    let device = source.publish("user").await?;
    fill(&device)?;
    let held = digest(&device)?;
    let first = snapshot(ground, &source, &ground.name("snap")).await?;
    let clone = copy(ground, "thin", of_snapshot(&first), 40 * MIB, &source).await?;
    let capability = source.capability.clone();
    source.remove().await?;
    // A snapshot of a clone of a snapshot.
    let second = snapshot(ground, &clone, &ground.name("snap")).await?;
    forget(ground, &first).await?;
    clone.remove().await?;
    let request = v1::CreateVolumeRequest {
        volume_content_source: Some(v1::VolumeContentSource { r#type: Some(of_snapshot(&second)) }),
        ..ground.request("thin", &ground.name("copy"), 40 * MIB, capability)
    };
    let last = ground.volume_from(request, "own").await?;
    forget(ground, &second).await?;
    last.stage().await?;
    ensure!(digest(&last.publish("user").await?)? == held);
    last.remove().await?;
    end(group)
}

async fn thick_order(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 200)?;
    let source = ground.volume_in("own", "own", "source", 40, block()).await?;
    let taken = snapshot(ground, &source, &ground.name("snap")).await?;
    let request = || v1::DeleteVolumeRequest { volume_id: source.id.clone(), ..v1::DeleteVolumeRequest::default() };
    let answer = ground.client().controller.delete_volume(request()).await;
    refused(answer, FailedPrecondition, &["is a snapshot of it", "delete the snapshot first"])?;
    ensure!(!source.tags()?.contains("deleting"));
    forget(ground, &taken).await?;
    source.remove().await?;
    end(group)
}

async fn thick_growth(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 200)?;
    let source = ground.volume_in("own", "own", "source", 40, block()).await?;
    let taken = snapshot(ground, &source, &ground.name("snap")).await?;
    let request = || v1::ControllerExpandVolumeRequest {
        volume_id: source.id.clone(),
        capacity_range: Some(v1::CapacityRange { required_bytes: 48 * MIB, limit_bytes: 0 }),
        ..v1::ControllerExpandVolumeRequest::default()
    };
    let answer = ground.client().controller.controller_expand_volume(request()).await;
    refused(answer, FailedPrecondition, &["is not grown while", "delete the snapshot first"])?;
    ensure!(source.size().await? == 40 * MIB);
    forget(ground, &taken).await?;
    answered(ground.client().controller.controller_expand_volume(request()).await)?;
    source.remove().await?;
    end(group)
}

async fn lost(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 200)?;
    let source = ground.volume_in("little", "own", "source", 40, block()).await?;
    source.stage().await?;
    let device = source.publish("user").await?;
    let taken = snapshot(ground, &source, &ground.name("snap")).await?;
    fill(&device)?;
    let list = v1::ListSnapshotsRequest { snapshot_id: taken.snapshot_id.clone(), ..Default::default() };
    let is_usable = async || {
        let listed = answered(ground.client().controller.list_snapshots(list.clone()).await)?;
        let found = listed.entries.first().and_then(|entry| entry.snapshot.as_ref()).context("it is not listed")?;
        let get = v1::GetSnapshotRequest { snapshot_id: taken.snapshot_id.clone(), ..Default::default() };
        let got = answered(ground.client().controller.get_snapshot(get).await)?.snapshot.context("no snapshot")?;
        ensure!(got.ready_to_use == found.ready_to_use, "{got:?} but {found:?}");
        anyhow::Ok(got.ready_to_use)
    };
    ensure!(!is_usable().await?, "it counts as usable though it is lost");
    // The kernel tells it only while it is active.
    source.unpublish(&device).await?;
    source.unstage().await?;
    for _ in 0..2 {
        ensure!(source.device().is_err(), "it is active");
        ensure!(!is_usable().await?, "it counts as usable since it is not active");
        ground.crash().await?;
    }
    let wanted = request(ground, "own", of_snapshot(&taken), 40 * MIB, block());
    let name = wanted.name.clone();
    let answer = ground.client().controller.create_volume(wanted).await;
    refused(answer, FailedPrecondition, &["is lost", "snapshotReserve"])?;
    let id = v1::DeleteVolumeRequest { volume_id: format!("lab-node/{name}"), ..Default::default() };
    answered(ground.client().controller.delete_volume(id).await)?;
    forget(ground, &taken).await?;
    source.remove().await?;
    end(group)
}

async fn unreadable(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 120)?;
    let source = ground.volume_in("own", "own", "source", 40, block()).await?;
    source.stage().await?;
    let device = source.publish("user").await?;
    fill(&device)?;
    let taken = snapshot(ground, &source, &ground.name("snap")).await?;
    write_at(&device, 0, &vec![0; 6 << 20])?;
    forget(ground, &taken).await?;
    source.remove().await?;
    let name = logical_name(&taken)?;
    crate::inside::check::eventually("what the snapshot kept is wiped", || async {
        Ok(!lvm(&["lvs", "--noheadings", "-o", "lv_name", "own"])?.contains(&name))
    })
    .await?;
    let (_, largest) = super::capacity_of(ground, "own").await?;
    let next = ground.volume_in("own", "own", "next", largest / MIB, block()).await?;
    next.stage().await?;
    ensure!(are_zero(&next.publish("user").await?)?, "what was kept can be read");
    next.remove().await?;
    end(group)
}

async fn facts(ground: &Ground) -> Result<()> {
    let here = answered(ground.client().node.node_get_info(v1::NodeGetInfoRequest {}).await)?.accessible_topology;
    for class in LAYOUTS {
        let group = ground.group("own", 200)?;
        let source = ground.volume_in(class, "own", "source", 40, block()).await?;
        let name = ground.name("snap");
        let wanted = v1::TopologyRequirement { requisite: here.clone().into_iter().collect(), preferred: Vec::new() };
        let request = v1::CreateSnapshotRequest {
            name: name.clone(),
            source_volume_id: source.id.clone(),
            accessibility_requirements: Some(wanted),
            ..v1::CreateSnapshotRequest::default()
        };
        let taken = answered(ground.client().controller.create_snapshot(request).await)?.snapshot.context("none")?;
        ensure!(taken.accessible_topology.first() == here.as_ref() && taken.accessible_topology.len() == 1);
        ensure!(taken.size_bytes == 40 * MIB && taken.source_volume_id == source.id, "{class}: {taken:?}");
        ensure!(snapshot(ground, &source, &name).await? == taken, "{class}: the same once more");
        let get = v1::GetSnapshotRequest { snapshot_id: taken.snapshot_id.clone(), ..Default::default() };
        ensure!(answered(ground.client().controller.get_snapshot(get).await)?.snapshot.as_ref() == Some(&taken));
        forget(ground, &taken).await?;
        forget(ground, &taken).await.context("once more")?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}

async fn other_source(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 200)?;
    let one = ground.volume_in("thin", "own", "one", 16, block()).await?;
    let other = ground.volume_in("thin", "own", "other", 16, block()).await?;
    let name = ground.name("snap");
    let taken = snapshot(ground, &one, &name).await?;
    let request = v1::CreateSnapshotRequest { name, source_volume_id: other.id.clone(), ..Default::default() };
    let answer = ground.client().controller.create_snapshot(request).await;
    refused(answer, AlreadyExists, &["it is of volume", &one.id])?;
    let made = copy(ground, "thin", of_snapshot(&taken), 16 * MIB, &one).await?;
    let again = v1::CreateVolumeRequest {
        volume_content_source: Some(v1::VolumeContentSource { r#type: Some(of_volume(&other)) }),
        ..ground.request("thin", &made.name, 16 * MIB, block())
    };
    refused(ground.client().controller.create_volume(again).await, AlreadyExists, &["it is a copy of"])?;
    let empty = ground.request("thin", &made.name, 16 * MIB, block());
    refused(ground.client().controller.create_volume(empty).await, AlreadyExists, &["it is a copy of"])?;
    made.remove().await?;
    forget(ground, &taken).await?;
    one.remove().await?;
    other.remove().await?;
    end(group)
}

async fn bad_sources(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 200)?;
    let source = ground.volume_in("thin", "own", "source", 16, block()).await?;
    let snapshot_of = |id: &str| Type::Snapshot(SnapshotSource { snapshot_id: id.to_owned() });
    let mut client = ground.client();
    let missing = request(ground, "thin", snapshot_of("lab-node/snap-none"), 16 * MIB, block());
    refused(client.controller.create_volume(missing).await, NotFound, &["snap-none"])?;
    let elsewhere = request(ground, "thin", snapshot_of("other-node/snap-1"), 16 * MIB, block());
    refused(client.controller.create_volume(elsewhere).await, ResourceExhausted, &["other-node"])?;
    let small = request(ground, "thin", of_volume(&source), 8 * MIB, block());
    refused(client.controller.create_volume(small).await, OutOfRange, &["capacity_range", "16777216"])?;
    let nothing = v1::CreateVolumeRequest {
        volume_content_source: Some(v1::VolumeContentSource { r#type: None }),
        ..ground.request("thin", &ground.name("copy"), 16 * MIB, block())
    };
    refused(client.controller.create_volume(nothing).await, tonic::Code::InvalidArgument, &["volume_content_source"])?;
    source.remove().await?;
    end(group)
}

async fn crashed(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let source = ground.volume_in("own", "own", "source", 100, block()).await?;
    source.stage().await?;
    let device = source.publish("user").await?;
    fill(&device)?;
    let held = digest(&device)?;
    let wanted = request(ground, "own", of_volume(&source), 100 * MIB, block());
    group.slice()?.slow_down(20)?;
    let call = tokio::spawn({
        let (mut client, request) = (ground.client(), wanted.clone());
        async move { client.controller.create_volume(request).await }
    });
    crate::inside::check::eventually("the copy is being made", || async {
        Ok(lvm(&["lvs", "--noheadings", "-o", "lv_tags", "own"])?.contains("quarry.unfinished"))
    })
    .await?;
    crate::inside::check::eventually("the repeated call is told how far it is", || async {
        let again = ground.client().controller.create_volume(wanted.clone()).await;
        Ok(refused(again, Aborted, &["copied", "of 100 MiB"]).is_ok())
    })
    .await?;
    ground.crash().await?;
    let _broken_off = call.await;
    group.slice()?.repair()?;
    let made = ground.volume_from(wanted, "own").await?;
    made.stage().await?;
    ensure!(digest(&made.publish("user").await?)? == held, "not what was there");
    made.remove().await?;
    source.remove().await?;
    crate::inside::check::eventually("nothing of the copying is left", || async {
        Ok(lvm(&["lvs", "--noheadings", "-o", "lv_name", "own"])?.is_empty())
    })
    .await?;
    end(group)
}

async fn other_size(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let group = ground.group("own", 300)?;
        let source = ground.volume_in(class, "own", "source", 16, block()).await?;
        let made = copy(ground, class, of_volume(&source), 24 * MIB, &source).await?;
        let source_of = v1::VolumeContentSource { r#type: Some(of_volume(&source)) };
        for range in [(32 * MIB, 0), (24 * MIB + 1, 24 * MIB + 2), (8 * MIB, 16 * MIB)] {
            let (required_bytes, limit_bytes) = range;
            let again = v1::CreateVolumeRequest {
                capacity_range: Some(v1::CapacityRange { required_bytes, limit_bytes }),
                volume_content_source: Some(source_of.clone()),
                ..ground.request(class, &made.name, 0, block())
            };
            refused(ground.client().controller.create_volume(again).await, AlreadyExists, &["capacity_range"])?;
        }
        ensure!(made.size().await? == 24 * MIB, "{class}: it changed");
        made.remove().await?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}

async fn like_a_copy_source(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let source = ground.volume_in("own", "own", "source", 16, block()).await?;
    let other = ground.volume_in("own", "own", "other", 16, block()).await?;
    other.stage().await?;
    let device = other.publish("user").await?;
    fill(&device)?;
    let name = ground.name("clone");
    let taken = snapshot(ground, &other, &format!("copy-{name}")).await?;
    let request = v1::CreateVolumeRequest {
        volume_content_source: Some(v1::VolumeContentSource { r#type: Some(of_volume(&source)) }),
        ..ground.request("own", &name, 16 * MIB, block())
    };
    let made = ground.volume_from(request, "own").await?;
    ensure!(snapshot(ground, &other, &format!("copy-{name}")).await? == taken, "the snapshot is another one");
    let restored = copy(ground, "own", of_snapshot(&taken), 16 * MIB, &other).await?;
    restored.stage().await?;
    ensure!(digest(&restored.publish("user").await?)? == digest(&device)?);
    restored.remove().await?;
    made.remove().await?;
    forget(ground, &taken).await?;
    other.remove().await?;
    source.remove().await?;
    end(group)
}

async fn other_file_system(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 900)?;
    let source = ground.volume_in("thin", "own", "source", 320, mounted("ext4")).await?;
    source.stage().await?;
    let wanted = request(ground, "thin", of_volume(&source), 320 * MIB, mounted("xfs"));
    let name = wanted.name.clone();
    let answer = ground.client().controller.create_volume(wanted).await;
    refused(answer, tonic::Code::InvalidArgument, &["fs_type", "the source holds ext4"])?;
    ensure!(!lvm(&["lvs", "--noheadings", "-o", "lv_name", "own"])?.contains(&name));
    source.remove().await?;
    end(group)
}

async fn raw_then_mounted(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 900)?;
    let source = ground.volume_in("thin", "own", "source", 320, mounted("xfs")).await?;
    source.stage().await?;
    source.publish("user").await?;
    let mut made = copy(ground, "thin", of_volume(&source), 320 * MIB, &source).await?;
    source.remove().await?;
    made.capability = block();
    made.stage().await?;
    let device = made.publish("user").await?;
    let held = digest(&device)?;
    made.unpublish(&device).await?;
    made.unstage().await?;
    ensure!(!made.tags()?.contains("same-uuid"), "it would be written to");
    made.stage().await?;
    ensure!(digest(&made.publish("user").await?)? == held);
    made.remove().await?;
    end(group)
}

async fn no_room(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 100)?;
    let source = ground.volume_in("own", "own", "source", 44, block()).await?;
    let before = lvm(&["lvs", "--noheadings", "-o", "lv_name", "own"])?;
    // There is room for the copy, but not for what is overwritten while it is made.
    let wanted = request(ground, "own", of_volume(&source), 44 * MIB, block());
    refused(ground.client().controller.create_volume(wanted).await, ResourceExhausted, &["own"])?;
    crate::inside::check::eventually("nothing is left of it", || async {
        Ok(lvm(&["lvs", "--noheadings", "-o", "lv_name", "own"])? == before)
    })
    .await?;
    source.remove().await?;
    end(group)
}

async fn name_again(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let group = ground.group("own", 200)?;
        let source = ground.volume_in(class, "own", "source", 16, block()).await?;
        let name = ground.name("snap");
        let first = snapshot(ground, &source, &name).await?;
        forget(ground, &first).await?;
        let again = || v1::CreateSnapshotRequest {
            name: name.clone(),
            source_volume_id: source.id.clone(),
            ..v1::CreateSnapshotRequest::default()
        };
        crate::inside::check::eventually("it is made anew", || async {
            match ground.client().controller.create_snapshot(again()).await {
                Ok(_) => Ok(true),
                answer => refused(answer, Aborted, &["its predecessor is still being"]).map(|()| false),
            }
        })
        .await?;
        forget(ground, &first).await?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}

async fn left_behind(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 100)?;
    let source = ground.volume_in("own", "own", "source", 8, block()).await?;
    let driver = "quarry.driver=lvm.quarry.storage";
    let tags = ["--addtag", "quarry.kind=snapshot", "--addtag", "quarry.name=x", "--addtag", "quarry.source=y"];
    // As lvm leaves it between its two commits.
    let wreck = ["lvcreate", "-qq", "-y", "-an", "-Zn", "-Wn", "-l", "1", "-n", "snap-wreck", "--addtag", driver];
    lvm(&[&wreck[..], &tags, &["own"]].concat())?;
    let uuid = lvm(&["lvs", "--noheadings", "-o", "lv_uuid", &source.full_name()])?;
    let stale = format!("quarry.of={uuid}");
    let tags = ["quarry.kind=copy-source", "quarry.copy=nobody", "quarry.bytes=8388608", driver, &stale];
    let tags: Vec<&str> = tags.iter().flat_map(|tag| ["--addtag", tag]).collect();
    let words = ["lvcreate", "-qq", "-y", "-s", "-l", "1", "-n", "snap-stale"];
    lvm(&[&words[..], &tags, &[&source.full_name()]].concat())?;
    ground.crash().await?;
    crate::inside::check::eventually("both are gone", || async {
        let names = lvm(&["lvs", "--noheadings", "-o", "lv_name", "own"])?;
        Ok(!names.contains("snap-wreck") && !names.contains("snap-stale"))
    })
    .await?;
    source.remove().await?;
    end(group)
}

async fn earlier_tenant(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 120)?;
    // Somebody else's, on the same blocks; removed by hand.
    lvm(&["lvcreate", "-qq", "-y", "-l", "4", "-n", "theirs", "own"])?;
    run(&["udevadm", "settle"])?;
    run(&["mkfs.ext4", "-q", "-F", "/dev/own/theirs"])?;
    lvm(&["lvremove", "-qq", "-y", "own/theirs"])?;
    let source = ground.volume_in("own", "own", "source", 16, mounted("ext4")).await?;
    let made = copy(ground, "own", of_volume(&source), 16 * MIB, &source).await?;
    let answer = ground.client().node.node_stage_volume(made.stage_request()?).await;
    refused(answer, FailedPrecondition, &["is a copy of", "copies are not formatted"])?;
    made.remove().await?;
    source.remove().await?;
    end(group)
}

async fn promised(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 200)?;
    let (available, largest) = super::capacity_of(ground, "thin").await?;
    ensure!(available == largest);
    let too_large = ground.request("thin", &ground.name("large"), largest + 1, block());
    refused(ground.client().controller.create_volume(too_large).await, ResourceExhausted, &["thin"])?;
    let first = ground.volume_in("thin", "own", "first", largest / MIB - 40, block()).await?;
    ensure!(super::capacity_of(ground, "thin").await? == (40 * MIB, 40 * MIB), "what is left is what it said");
    let small = ground.volume_in("thin", "own", "small", 20, block()).await?;
    let taken = snapshot(ground, &small, &ground.name("snap")).await?;
    ensure!(super::capacity_of(ground, "thin").await? == (0, 0), "a snapshot may come to need as much as its volume");
    let name = ground.name("snap");
    let more = v1::CreateSnapshotRequest { name, source_volume_id: small.id.clone(), ..Default::default() };
    refused(
        ground.client().controller.create_snapshot(more).await,
        FailedPrecondition,
        &["no room for a snapshot", "quarry-thin"],
    )?;
    let grow = v1::ControllerExpandVolumeRequest {
        volume_id: small.id.clone(),
        capacity_range: Some(v1::CapacityRange { required_bytes: 24 * MIB, limit_bytes: 0 }),
        ..v1::ControllerExpandVolumeRequest::default()
    };
    refused(ground.client().controller.controller_expand_volume(grow.clone()).await, OutOfRange, &["required_bytes"])?;
    forget(ground, &taken).await?;
    answered(ground.client().controller.controller_expand_volume(grow).await)?;
    first.remove().await?;
    small.remove().await?;
    end(group)
}

async fn nothing_suspended(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let group = ground.group("own", 200)?;
        let source = ground.volume_in(class, "own", "source", 40, mounted("ext4")).await?;
        source.stage().await?;
        let folder = source.publish("user").await?;
        let name = ground.name("snap");
        // As a command that is killed in between leaves it.
        run(&["dmsetup", "suspend", &source.mapper_name()])?;
        let taken = snapshot(ground, &source, &name).await?;
        fs::write(folder.join("f"), "goes on")?;
        run(&["dmsetup", "suspend", &source.mapper_name()])?;
        snapshot(ground, &source, &name).await?;
        fs::write(folder.join("g"), "goes on")?;
        forget(ground, &taken).await?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}
