//! Volume groups that cannot take a volume, and what an admin does to groups.

use std::fs;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::{FailedPrecondition, NotFound, ResourceExhausted, Unavailable};

use crate::client::{block, mounted};
use crate::inside::check::{Ground, Group, LocalSettings, MIB, MachineState, answered, lvm, refused, run};

use super::capacity_of;

cases! {
    "a full group has no room, and the refusal leaves nothing" => full,
    "a class without a group here has no room" => absent,
    "a group with a missing disk takes nothing, loses nothing, and works when the disk is back" => missing_disk,
    "a group that is gone keeps its volumes: nothing is deleted or made anew until it is back" => gone_and_back,
    "an exported group takes nothing and its volumes stay" => exported,
    "a read-only group takes nothing and its volumes stay" => read_only,
    "a group of another system takes nothing and its volumes stay" => foreign_system,
    "a group of this machine's own system id is used like any other" => own_system,
    "a group whose metadata area is full takes nothing more, and still lets its volumes go" => metadata_area_full,
    "two groups of one name are left alone" => same_name,
    "a class of two groups takes the one with room" => second_has_room,
    "what an admin does to groups is seen by the very next call" => admin_commands,
}

/// That the group takes no volume for the reason, and that its volume is neither deleted nor grown.
async fn takes_nothing(ground: &Ground, volume_id: &str, code: tonic::Code, reason: &str) -> Result<()> {
    let mut controller = ground.client().controller;
    let before = MachineState::read()?;
    let request = ground.request("own", "refused", 4 * MIB, block());
    refused(controller.create_volume(request).await, ResourceExhausted, &["own", reason])?;
    ensure!(capacity_of(ground, "own").await? == (0, 0), "it has capacity");
    let delete = v1::DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..v1::DeleteVolumeRequest::default() };
    refused(controller.delete_volume(delete).await, code, &["own", reason])?;
    let grow = v1::ControllerExpandVolumeRequest {
        volume_id: volume_id.to_owned(),
        capacity_range: Some(v1::CapacityRange { required_bytes: 8 * MIB, limit_bytes: 0 }),
        ..v1::ControllerExpandVolumeRequest::default()
    };
    refused(controller.controller_expand_volume(grow).await, code, &["own", reason])?;
    let differences = before.differences(&MachineState::read()?);
    ensure!(differences.is_empty(), "the refusals changed something: {differences:?}");
    Ok(())
}

async fn full(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let (_, largest) = capacity_of(ground, "own").await?;
    let volume = ground.volume_in("own", "own", "fills", largest / MIB, block()).await?;
    let before = MachineState::read()?;
    let request = ground.request("own", "too-much", 1, block());
    refused(ground.client().controller.create_volume(request).await, ResourceExhausted, &["own", "at most 0 bytes"])?;
    ensure!(before == MachineState::read()?, "the refusal changed something");
    volume.remove().await?;
    group.remove()
}

async fn absent(ground: &Ground) -> Result<()> {
    let request = ground.request("absent", "absent", 4 * MIB, block());
    let answer = ground.client().controller.create_volume(request).await;
    refused(answer, ResourceExhausted, &["no volume group absent-* here"])?;
    ensure!(capacity_of(ground, "absent").await? == (0, 0));
    Ok(())
}

async fn missing_disk(ground: &Ground) -> Result<()> {
    let group = Group::make("own", vec![ground.slice(32)?, ground.slice(32)?])?;
    let volume = ground.volume_in("own", "own", "half", 4, mounted("ext4")).await?;
    let staging = volume.stage().await?;
    fs::write(staging.join("f"), "data")?;
    volume.unstage().await?;
    let fresh = ground.volume_in("own", "own", "fresh", 4, mounted("ext4")).await?;
    let second = group.slices.last().context("two slices")?;
    second.pull()?;
    takes_nothing(ground, &volume.id, Unavailable, "missing").await?;
    let request = fresh.stage_request()?;
    let before = MachineState::read()?;
    refused(ground.client().node.node_stage_volume(request).await, Unavailable, &["own", "missing"])?;
    let differences = before.differences(&MachineState::read()?);
    ensure!(differences.is_empty(), "the refused first use changed something: {differences:?}");
    // What lies on the disk that is there can be used on.
    let staging = volume.stage().await?;
    ensure!(fs::read(staging.join("f"))? == b"data");
    volume.unstage().await?;
    second.plug()?;
    ensure!(capacity_of(ground, "own").await?.1 > 0, "the disk is back, but there is no capacity");
    fresh.stage().await?;
    fresh.remove().await?;
    volume.remove().await?;
    group.remove()
}

async fn gone_and_back(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let volume = ground.volume_in("own", "own", "gone", 4, mounted("ext4")).await?;
    lvm(&["vgcfgbackup", "-qq", "own"])?;
    group.slice()?.pull()?;
    let mut client = ground.client();
    let words = &["own", "not there now"];
    let delete = || v1::DeleteVolumeRequest { volume_id: volume.id.clone(), ..v1::DeleteVolumeRequest::default() };
    refused(client.controller.delete_volume(delete()).await, Unavailable, words)?;
    let request = ground.request("main", &volume.name, 4 * MIB, mounted("ext4"));
    refused(client.controller.create_volume(request).await, Unavailable, words)?;
    refused(client.node.node_stage_volume(volume.stage_request()?).await, Unavailable, words)?;
    let get = || v1::ControllerGetVolumeRequest { volume_id: volume.id.clone() };
    refused(client.controller.controller_get_volume(get()).await, Unavailable, words)?;
    // A node that never saw the group knows of it, too, once its backup was written.
    ground.crash().await?;
    let mut client = ground.client();
    refused(client.controller.delete_volume(delete()).await, Unavailable, &["own"])?;
    refused(client.controller.controller_get_volume(get()).await, Unavailable, &["own"])?;
    group.slice()?.plug()?;
    volume.stage().await?;
    volume.remove().await?;
    group.remove()
}

async fn exported(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let volume = ground.volume_in("own", "own", "exported", 4, block()).await?;
    lvm(&["vgexport", "-qq", "own"])?;
    takes_nothing(ground, &volume.id, FailedPrecondition, "exported").await?;
    let answer = ground.client().node.node_stage_volume(volume.stage_request()?).await;
    refused(answer, FailedPrecondition, &["own", "exported"])?;
    lvm(&["vgimport", "-qq", "own"])?;
    volume.remove().await?;
    group.remove()
}

async fn read_only(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let volume = ground.volume_in("own", "own", "read-only", 4, block()).await?;
    // No command of lvm makes a group read-only; metadata that says so can be restored.
    let folder = ground.folder("backup")?;
    let [writable, read_only] = ["writable", "read-only"].map(|name| folder.join(name).to_string_lossy().into_owned());
    lvm(&["vgcfgbackup", "-qq", "--file", &writable, "own"])?;
    fs::write(&read_only, fs::read_to_string(&writable)?.replacen(", \"WRITE\"", "", 1))?;
    lvm(&["vgcfgrestore", "-qq", "--file", &read_only, "own"])?;
    takes_nothing(ground, &volume.id, FailedPrecondition, "read-only").await?;
    lvm(&["vgcfgrestore", "-qq", "--file", &writable, "own"])?;
    fs::remove_dir_all(folder)?;
    volume.remove().await?;
    group.remove()
}

/// As the other system would act.
const OTHER_SYSTEM: [&str; 2] = ["--config", "global/system_id_source=\"lvmlocal\" local/system_id=\"elsewhere\""];

async fn foreign_system(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let volume = ground.volume_in("own", "own", "foreign", 4, block()).await?;
    lvm(&[&["vgchange", "-qq", "-y", "--systemid", "elsewhere"], &OTHER_SYSTEM[..], &["own"]].concat())?;
    let request = ground.request("own", "refused", 4 * MIB, block());
    let answer = ground.client().controller.create_volume(request).await;
    refused(answer, ResourceExhausted, &["own", "elsewhere"])?;
    ensure!(capacity_of(ground, "own").await? == (0, 0), "it has capacity");
    let delete = v1::DeleteVolumeRequest { volume_id: volume.id.clone(), ..v1::DeleteVolumeRequest::default() };
    refused(ground.client().controller.delete_volume(delete).await, FailedPrecondition, &["own", "elsewhere"])?;
    lvm(&[&["vgchange", "-qq", "-y", "--systemid", ""], &OTHER_SYSTEM[..], &["own"]].concat())?;
    volume.remove().await?;
    group.remove()
}

async fn own_system(ground: &Ground) -> Result<()> {
    let settings = "global { system_id_source = \"lvmlocal\" }\nlocal { system_id = \"here\" }\n";
    let settings = LocalSettings::say(settings)?;
    ground.crash().await?;
    let group = ground.group("own", 32)?;
    ensure!(lvm(&["vgs", "--noheadings", "-o", "systemid", "own"])?.trim() == "here", "the group has no system id");
    let volume = ground.volume_in("own", "own", "ours", 4, mounted("ext4")).await?;
    volume.stage().await?;
    volume.grow(8 * MIB).await?;
    volume.unstage().await?;
    volume.remove().await?;
    group.remove()?;
    drop(settings);
    ground.crash().await
}

async fn metadata_area_full(ground: &Ground) -> Result<()> {
    let slice = ground.slice(256)?;
    lvm(&["pvcreate", "-qq", "--metadatasize", "60k", "--dataalignment", "64k", &slice.path()])?;
    let group = Group::make("own", vec![slice])?;
    let mut volumes = Vec::new();
    let refusal = loop {
        let name = ground.name(&"m".repeat(120));
        let request = ground.request("own", &name, MIB, block());
        match ground.client().controller.create_volume(request).await {
            Ok(_) => volumes.push(ground.volume_from(ground.request("own", &name, MIB, block()), "own").await?),
            Err(status) => break status,
        }
        ensure!(volumes.len() < 63, "the metadata area is never full");
    };
    ensure!(refusal.code() == ResourceExhausted, "{refusal:?}");
    ensure!(refusal.message().contains("metadata area is full"), "{}", refusal.message());
    ensure!(volumes.len() > 10, "only {} volumes fit", volumes.len());
    ensure!(capacity_of(ground, "own").await? == (0, 0), "it has capacity");
    // The room that is kept back is for what must still be possible.
    volumes[0].stage().await?;
    volumes[0].unstage().await?;
    for volume in &volumes {
        volume.delete().await?;
    }
    for volume in &volumes {
        volume.gone().await?;
    }
    fs::remove_dir_all(volumes[0].folder())?;
    ensure!(capacity_of(ground, "own").await?.1 > 0, "it has no capacity again");
    group.remove()
}

async fn same_name(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let volume = ground.volume_in("own", "own", "twin", 4, block()).await?;
    group.slice()?.pull()?;
    let twin = ground.group("own", 32)?;
    group.slice()?.plug()?;
    let request = ground.request("own", "refused", 4 * MIB, block());
    let answer = ground.client().controller.create_volume(request).await;
    refused(answer, ResourceExhausted, &["2 volume groups bear this name"])?;
    let delete = v1::DeleteVolumeRequest { volume_id: volume.id.clone(), ..v1::DeleteVolumeRequest::default() };
    refused(ground.client().controller.delete_volume(delete).await, Unavailable, &["own"])?;
    group.slice()?.pull()?;
    twin.remove()?;
    group.slice()?.plug()?;
    volume.remove().await?;
    group.remove()
}

async fn second_has_room(ground: &Ground) -> Result<()> {
    let (small, large) = (ground.group("own", 16)?, ground.group("second", 64)?);
    let volume = ground.volume_in("both", "second", "large", 40, block()).await?;
    lvm(&["lvs", &volume.full_name()])?;
    let (available, largest) = capacity_of(ground, "both").await?;
    ensure!(available > largest, "the room of both groups is not added up: {available}, {largest}");
    let request = ground.request("both", "too-much", 32 * MIB, block());
    let answer = ground.client().controller.create_volume(request).await;
    refused(answer, ResourceExhausted, &["own", "second"])?;
    volume.remove().await?;
    small.remove()?;
    large.remove()
}

async fn admin_commands(ground: &Ground) -> Result<()> {
    ensure!(capacity_of(ground, "own").await? == (0, 0));
    let slice = ground.slice(32)?;
    let more = ground.slice(32)?;
    lvm(&["vgcreate", "-qq", "own", &slice.path()])?;
    let (_, first) = capacity_of(ground, "own").await?;
    ensure!(first > 0, "the new group is not seen");
    lvm(&["vgextend", "-qq", "own", &more.path()])?;
    let (_, both) = capacity_of(ground, "own").await?;
    ensure!(both > first, "the new disk is not seen");
    lvm(&["lvcreate", "-qq", "-y", "-l", "1", "-n", "foreign", "own"])?;
    ensure!(capacity_of(ground, "own").await?.1 == both - 4 * MIB, "the new logical volume is not seen");
    lvm(&["pvchange", "-qq", "--allocatable", "n", &more.path()])?;
    ensure!(capacity_of(ground, "own").await?.1 < first, "the disk that takes nothing counts");
    lvm(&["pvchange", "-qq", "--allocatable", "y", &more.path()])?;
    lvm(&["lvremove", "-qq", "-y", "own/foreign"])?;
    lvm(&["vgrename", "-qq", "own", "second"])?;
    ensure!(capacity_of(ground, "own").await? == (0, 0), "the old name still counts");
    ensure!(capacity_of(ground, "second").await?.1 == both, "the new name is not seen");
    let volume = ground.volume_in("second", "second", "named", 4, block()).await?;
    lvm(&["lvremove", "-qq", "-y", &volume.full_name()])?;
    let get = v1::ControllerGetVolumeRequest { volume_id: volume.id.clone() };
    refused(ground.client().controller.controller_get_volume(get).await, NotFound, &[&volume.id])?;
    volume.delete().await?;
    lvm(&["vgremove", "-qq", "second"])?;
    ensure!(capacity_of(ground, "second").await? == (0, 0), "the removed group still counts");
    let stranger = v1::DeleteVolumeRequest { volume_id: volume.id.clone(), ..v1::DeleteVolumeRequest::default() };
    answered(ground.client().controller.delete_volume(stranger).await).context("the group is gone for good")?;
    run(&["udevadm", "settle"])?;
    slice.pull()?;
    more.pull()
}
