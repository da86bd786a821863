//! Volumes made of snapshots and of volumes, thick and thin.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use quarry::csi::v1::volume_content_source::{SnapshotSource, Type};
use tonic::Code::{Aborted, AlreadyExists, FailedPrecondition, NotFound, OutOfRange, ResourceExhausted};

use super::sources::{
    LAYOUTS, copy, copy_into, end, forget, of_snapshot, of_volume, request, snapshot, snapshot_request,
};
use crate::client::{block, mounted};
use crate::inside::check::{
    Ground, MIB, Volume, bytes_of_file_system, comfortable, digest, digest_of_first, fill, lvm, refused, run, write_at,
};

cases! {
    "a volume of a snapshot has what was there then, beside its source" => restored,
    "a clone of a volume in use has what was there then, and both go on" => cloned,
    "a copy of a raw block volume is equal to it, and may be larger" => raw,
    "the file system of a larger copy is as large as the copy" => larger,
    "a copy into another layout is equal, both ways" => other_layout,
    "a copy into another volume group is equal, from either layout into either" => other_group,
    "a copy of a volume that was never used is not formatted" => never_used,
    "an xfs of which the log was half written when it got its UUID is mounted by the repeated call" => half_renewed,
    "a source that is missing, elsewhere or too large is refused" => bad_sources,
    "a copy that a crash cut off is whole after the repeated call" => crashed,
    "a repeated call for another size leaves a copy as it is" => other_size,
    "a copy with another file system than its source is refused before it is made" => other_file_system,
    "a copy that was used as a raw device is not written to by a later mount" => raw_then_mounted,
    "a thick copy without room for what it is copied from leaves nothing" => no_room,
    "a copy of a thick volume that nobody used shows nothing of an earlier tenant" => earlier_tenant,
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
        for file_system in ["ext4", "xfs", "btrfs"] {
            let group = ground.group("own", 1_500)?;
            let mib = comfortable(file_system).max(64);
            let source = ground.volume_in(class, "own", "source", mib, mounted(file_system)).await?;
            source.stage().await?;
            let folder = source.publish("user").await?;
            fs::write(folder.join("f"), "data")?;
            let taken = snapshot(ground, &source, &ground.name("snap")).await?;
            let made = copy(ground, class, of_snapshot(&taken), (mib + 136) * MIB, &source).await?;
            made.stage().await.context(format!("{class} {file_system}"))?;
            let seen = made.publish("user").await?;
            let grown_by = bytes_of_file_system(&seen)? - bytes_of_file_system(&folder)?;
            ensure!(grown_by > 110 * MIB, "{class} {file_system}: larger by {grown_by} bytes");
            ensure!(fs::read_to_string(seen.join("f"))? == "data");
            made.remove().await?;
            forget(ground, &taken).await?;
            source.remove().await?;
            end(group)?;
        }
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

async fn other_group(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let (group, second) = (ground.group("own", 300)?, ground.group("second", 300)?);
        let source = ground.volume_in(class, "own", "source", 40, block()).await?;
        source.stage().await?;
        let device = source.publish("user").await?;
        fill(&device)?;
        let held = digest(&device)?;
        for other in ["second", "other-thin"] {
            let made = copy_into(ground, (other, "second"), of_volume(&source), 40 * MIB, &source).await?;
            made.stage().await?;
            ensure!(digest(&made.publish("user").await?)? == held, "from {class} to {other}");
            made.remove().await?;
        }
        source.remove().await?;
        end(second)?;
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

async fn half_renewed(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let group = ground.group("own", 1_500)?;
        let source = ground.volume_in(class, "own", "source", comfortable("xfs"), mounted("xfs")).await?;
        source.stage().await?;
        let folder = source.publish("user").await?;
        fs::write(folder.join("before"), "before")?;
        let taken = snapshot(ground, &source, &ground.name("snap")).await?;
        let bytes = comfortable("xfs") * MIB;
        let mut tries = 0;
        let made = loop {
            tries += 1;
            ensure!(tries <= 5, "{class}: in {tries} tries xfs_db was never killed half-way");
            let made = copy(ground, class, of_snapshot(&taken), bytes, &source).await?;
            // Else it is over in a moment.
            group.slice()?.slow_down(5)?;
            let (staged, killed) = tokio::join!(made.stage(), kill_renewing());
            group.slice()?.repair()?;
            killed?;
            if staged.is_err() && made.tags()?.contains("renewing-uuid") && !mounts_as_it_is(&made)? {
                break made;
            }
            made.remove().await?;
        };
        let of_half = snapshot_request(&made, &ground.name("snap"));
        let answer = ground.client().controller.create_snapshot(of_half).await;
        refused(answer, FailedPrecondition, &[&made.name, "stage it once"])?;
        made.stage().await.context(class)?;
        ensure!(!made.tags()?.contains("uuid"), "{class}: {}", made.tags()?);
        let copied = made.publish("user").await?;
        ensure!(fs::read(copied.join("before"))? == b"before", "{class}");
        fs::write(copied.join("after"), "after")?;
        made.remove().await?;
        forget(ground, &taken).await?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}

/// Kills what gives an xfs another UUID, a moment after it has begun.
async fn kill_renewing() -> Result<()> {
    let command = "xfs_db -x -c uuid generate";
    crate::inside::check::eventually("the UUID is renewed", || async {
        Ok(run(&["pgrep", "--full", command]).is_ok())
    })
    .await?;
    tokio::time::sleep(Duration::from_millis(400)).await;
    // It may have ended by itself.
    run(&["pkill", "-KILL", "--full", command]).ok();
    Ok(())
}

/// Whether the kernel mounts it beside its source; then it is unmounted again.
fn mounts_as_it_is(volume: &Volume<'_>) -> Result<bool> {
    let (device, folder) = (format!("/dev/{}", volume.full_name()), "/run/check-half-renewed");
    fs::create_dir_all(folder)?;
    let is_mounted = run(&["mount", "-o", "nouuid", &device, folder]).is_ok();
    if is_mounted {
        run(&["umount", folder])?;
    }
    Ok(is_mounted)
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
