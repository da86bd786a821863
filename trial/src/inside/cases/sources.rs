//! Snapshots, and what is made of them and of volumes, as the cases ask for them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use quarry::csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};

use crate::inside::check::{Ground, Volume, answered, fill, lvm, run};

/// The class of each layout.
pub(super) const LAYOUTS: [&str; 2] = ["own", "thin"];

pub(super) fn snapshot_request(volume: &Volume<'_>, name: &str) -> v1::CreateSnapshotRequest {
    v1::CreateSnapshotRequest {
        name: name.to_owned(),
        source_volume_id: volume.id.clone(),
        ..v1::CreateSnapshotRequest::default()
    }
}

pub(super) async fn snapshot(ground: &Ground, volume: &Volume<'_>, name: &str) -> Result<v1::Snapshot> {
    let request = snapshot_request(volume, name);
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

/// A volume of a class in the group `own` made of a source, of so many bytes.
pub(super) async fn copy<'g>(
    ground: &'g Ground,
    class: &str,
    source: Type,
    bytes: i64,
    like: &Volume<'_>,
) -> Result<Volume<'g>> {
    copy_into(ground, (class, "own"), source, bytes, like).await
}

/// The same of a class in another group.
pub(super) async fn copy_into<'g>(
    ground: &'g Ground,
    (class, group): (&str, &str),
    source: Type,
    bytes: i64,
    like: &Volume<'_>,
) -> Result<Volume<'g>> {
    let request = request(ground, class, source, bytes, like.capability.clone());
    let wanted = request.volume_content_source.clone();
    let answer = answered(ground.client().controller.create_volume(request.clone()).await).context("a copy")?;
    ensure!(answer.volume.as_ref().is_some_and(|volume| volume.content_source == wanted));
    // The same once more finds it.
    ground.volume_from(request, group).await
}

/// The group goes with the pool in it, and what is still being wiped.
pub(super) fn end(group: crate::inside::check::Group) -> Result<()> {
    run(&["udevadm", "settle"])?;
    group.remove()
}

/// Fills all free blocks of a group with a pattern, which then lies on the next volumes' blocks.
pub(super) fn spoil(group: &str) -> Result<()> {
    lvm(&["lvcreate", "-qq", "-y", "-Wn", "-Zn", "-l", "100%FREE", "-n", "spoiled", group])?;
    run(&["udevadm", "settle"])?;
    fill(Path::new(&format!("/dev/{group}/spoiled")))?;
    run(&["udevadm", "settle"])?;
    lvm(&["lvremove", "-qq", "-y", &format!("{group}/spoiled")]).map(drop)
}
