//! Snapshots of thick and of thin volumes.

use std::fs;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::{Aborted, AlreadyExists, FailedPrecondition, OutOfRange, ResourceExhausted};

use super::sources::{LAYOUTS, copy, end, forget, logical_name, of_snapshot, of_volume, request, snapshot};
use crate::client::{block, mounted};
use crate::inside::check::{Ground, MIB, answered, are_zero, digest, fill, lvm, refused, run, write_at};

cases! {
    "snapshots of thin volumes, their sources and their copies go in any order" => any_order,
    "a thick volume with a snapshot is not deleted before that, and goes by itself after it" => thick_order,
    "a thick volume with a snapshot does not grow until that is gone" => thick_growth,
    "a thick snapshot whose reserve is full is told as lost, and nothing is made of it" => lost,
    "what a thick snapshot kept is unreadable in the next volume" => unreadable,
    "a snapshot says where it is and how large, and keeps its time" => facts,
    "the same name with another source is refused" => other_source,
    "a snapshot whose name looks like that of a copy's source is left alone" => like_a_copy_source,
    "the name of a deleted snapshot can be used again, at the latest a moment later" => name_again,
    "what a broken off snapshot left is removed, and so is what no copy is made of any more" => left_behind,
    "a thin pool takes no more than was promised" => promised,
    "a snapshot that hangs leaves no device suspended" => nothing_suspended,
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
        let wanted = |topology| v1::CreateSnapshotRequest {
            name: name.clone(),
            source_volume_id: source.id.clone(),
            accessibility_requirements: Some(v1::TopologyRequirement {
                requisite: vec![topology],
                preferred: Vec::new(),
            }),
            ..v1::CreateSnapshotRequest::default()
        };
        let here = here.clone().context("the node is nowhere")?;
        let mut elsewhere = here.clone();
        elsewhere.segments.values_mut().for_each(|node| *node = String::from("other-node"));
        let refusal = ground.client().controller.create_snapshot(wanted(elsewhere)).await;
        refused(refusal, FailedPrecondition, &["accessibility_requirements", "lab-node"])?;
        let request = wanted(here.clone());
        let taken = answered(ground.client().controller.create_snapshot(request).await)?.snapshot.context("none")?;
        ensure!(taken.accessible_topology == [here], "{class}: {taken:?}");
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
        &["no snapshot can be made", "quarry-thin"],
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
