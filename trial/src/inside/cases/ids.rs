//! Ids of volumes that were never given out, and those of somebody else.

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::{AlreadyExists, InvalidArgument, NotFound, Unavailable};
use tonic::{Code, Response, Status};

use crate::client::{block, create, mounted, publish, stage};
use crate::inside::check::{Ground, MIB, answered, digest, fill, lvm, refused, run};

/// What this node never gave out.
const GARBAGE: [&str; 15] = [
    "garbage",
    "/",
    "lab-node/",
    "/volume",
    "lab-node/a/b",
    "lab-node/../main",
    "lab-node/..",
    "../../dev/ubda",
    "lab-node/a b",
    " lab-node/a",
    "lab-node/a\n",
    "lab-node/-y",
    "lab-node/a\0",
    "lab-node/pool_tdata",
    "lab-node/Ä",
];

cases! {
    "an id that was never given out is unknown to every call, and its deletion is done" => garbage,
    "an id of more than 128 bytes is refused by every call" => too_long,
    "an id of another node is unknown here, and its deletion is refused" => another_node,
    "a logical volume of somebody else in the same group is not touched by any call" => foreign_logical_volume,
    "a volume under the name of somebody else's logical volume is refused" => foreign_name,
    "a logical volume that only looks like ours is not ours" => looks_like_ours,
    "two volumes of one name in two groups are both left alone" => twice_in_two_groups,
    "a volume that an admin renamed, moved or retagged is found as it is now" => renamed_by_an_admin,
}

/// The code of every call that names the volume: controller, then node.
async fn codes(ground: &Ground, volume_id: &str) -> Result<Vec<(&'static str, Option<Code>)>> {
    fn code<T>(answer: Result<Response<T>, Status>) -> Option<Code> {
        answer.err().map(|status| status.code())
    }
    let (mut controller, mut node) = (ground.client().controller, ground.client().node);
    let folder = ground.folder("ids")?;
    let (staging, target) = (folder.join("staging"), folder.join("target"));
    std::fs::create_dir(&staging)?;
    let at = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let volume_id = || volume_id.to_owned();
    let range = Some(v1::CapacityRange { required_bytes: 64 * MIB, limit_bytes: 0 });
    let get = v1::ControllerGetVolumeRequest { volume_id: volume_id() };
    let health = v1::ControllerGetVolumeHealthRequest { volume_id: volume_id(), ..Default::default() };
    let validate = v1::ValidateVolumeCapabilitiesRequest {
        volume_id: volume_id(),
        volume_capabilities: vec![block()],
        ..Default::default()
    };
    let expand =
        v1::ControllerExpandVolumeRequest { volume_id: volume_id(), capacity_range: range, ..Default::default() };
    let node_expand = v1::NodeExpandVolumeRequest {
        volume_id: volume_id(),
        volume_path: at(&target),
        capacity_range: range,
        ..Default::default()
    };
    let stats =
        v1::NodeGetVolumeStatsRequest { volume_id: volume_id(), volume_path: at(&target), ..Default::default() };
    let node_health = v1::NodeGetVolumeHealthRequest { volume_id: volume_id(), ..Default::default() };
    let unpublish = v1::NodeUnpublishVolumeRequest { volume_id: volume_id(), target_path: at(&target) };
    let unstage = v1::NodeUnstageVolumeRequest { volume_id: volume_id(), staging_target_path: at(&staging) };
    let delete = v1::DeleteVolumeRequest { volume_id: volume_id(), ..Default::default() };
    let id = volume_id();
    let codes = vec![
        ("ControllerGetVolume", code(controller.controller_get_volume(get).await)),
        ("ControllerGetVolumeHealth", code(controller.controller_get_volume_health(health).await)),
        ("ValidateVolumeCapabilities", code(controller.validate_volume_capabilities(validate).await)),
        ("ControllerExpandVolume", code(controller.controller_expand_volume(expand).await)),
        ("NodeStageVolume", code(node.node_stage_volume(stage(&id, &staging, mounted("ext4"))).await)),
        ("NodeStageVolume (block)", code(node.node_stage_volume(stage(&id, &staging, block())).await)),
        ("NodePublishVolume", code(node.node_publish_volume(publish(&id, &staging, &target, mounted("ext4"))).await)),
        ("NodePublishVolume (block)", code(node.node_publish_volume(publish(&id, &staging, &target, block())).await)),
        ("NodeExpandVolume", code(node.node_expand_volume(node_expand).await)),
        ("NodeGetVolumeStats", code(node.node_get_volume_stats(stats).await)),
        ("NodeGetVolumeHealth", code(node.node_get_volume_health(node_health).await)),
        ("NodeUnpublishVolume", code(node.node_unpublish_volume(unpublish).await)),
        ("NodeUnstageVolume", code(node.node_unstage_volume(unstage).await)),
        ("DeleteVolume", code(controller.delete_volume(delete).await)),
    ];
    std::fs::remove_dir_all(folder)?;
    Ok(codes)
}

/// That looks and uses answer that there is no such volume, taking away that it is done, and deletion so.
async fn is_unknown(ground: &Ground, volume_id: &str, deletion: Option<Code>) -> Result<()> {
    for (call, code) in codes(ground, volume_id).await.with_context(|| volume_id.escape_debug().to_string())? {
        let expected = match call {
            "NodeUnpublishVolume" | "NodeUnstageVolume" => None,
            "DeleteVolume" => deletion,
            _ => Some(NotFound),
        };
        ensure!(code == expected, "{call} of {volume_id:?} answered {code:?}, not {expected:?}");
    }
    Ok(())
}

async fn garbage(ground: &Ground) -> Result<()> {
    for volume_id in GARBAGE {
        is_unknown(ground, volume_id, None).await?;
    }
    is_unknown(ground, "lab-node/never-made", None).await
}

async fn too_long(ground: &Ground) -> Result<()> {
    for (call, code) in codes(ground, &format!("lab-node/{}", "l".repeat(120))).await? {
        ensure!(code == Some(InvalidArgument), "{call} answered {code:?}");
    }
    Ok(())
}

async fn another_node(ground: &Ground) -> Result<()> {
    let volume = ground.volume("other-node", 4, block()).await?;
    is_unknown(ground, &format!("other-node/{}", volume.logical_name()), Some(Unavailable)).await?;
    ensure!(volume.size().await? == volume.bytes);
    volume.remove().await
}

async fn foreign_logical_volume(ground: &Ground) -> Result<()> {
    lvm(&["lvcreate", "-qq", "-y", "-L", "8M", "-n", "precious", "--addtag", "quarry", "main"])?;
    run(&["udevadm", "settle"])?;
    let device = std::fs::canonicalize("/dev/main/precious")?;
    fill(&device)?;
    let before = digest(&device)?;
    is_unknown(ground, "lab-node/precious", None).await?;
    let list = answered(ground.client().controller.list_volumes(v1::ListVolumesRequest::default()).await)?;
    ensure!(!list.entries.iter().any(|entry| format!("{entry:?}").contains("precious")), "it is listed");
    ground.crash().await?;
    ensure!(digest(&device)? == before, "its content changed");
    ensure!(lvm(&["lvs", "--noheadings", "-o", "lv_size,lv_tags", "--units", "m", "main/precious"])?.contains("8.00m"));
    lvm(&["lvremove", "-qq", "-y", "main/precious"]).map(drop)
}

async fn foreign_name(ground: &Ground) -> Result<()> {
    lvm(&["lvcreate", "-qq", "-y", "-L", "4M", "-n", "precious", "main"])?;
    let answer = ground.client().controller.create_volume(create("precious", 4 * MIB, block())).await;
    refused(answer, AlreadyExists, &["main/precious", "not of this driver"])?;
    lvm(&["lvremove", "-qq", "-y", "main/precious"]).map(drop)
}

async fn looks_like_ours(ground: &Ground) -> Result<()> {
    for tags in [
        &["quarry.fresh", "quarry.name=imitation", "quarry.class=main", "quarry.deleting=zero"][..],
        &["quarry.kind=volume"],
        &["quarry.kind=snapshot", "quarry.name=imitation", "quarry.deleting=none"],
    ] {
        let mut words = vec!["lvcreate", "-qq", "-y", "-L", "4M", "-n", "imitation"];
        words.extend(tags.iter().flat_map(|tag| ["--addtag", tag]));
        words.push("main");
        lvm(&words)?;
        is_unknown(ground, "lab-node/imitation", None).await?;
        // The one who wipes and removes had time to look at it, too.
        ground.volume("wakes-the-reaper", 4, block()).await?.remove().await?;
        lvm(&["lvremove", "-qq", "-y", "main/imitation"])?;
    }
    Ok(())
}

async fn twice_in_two_groups(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let volume = ground.volume("twice", 4, block()).await?;
    let name = volume.logical_name();
    lvm(&[
        "lvcreate",
        "-qq",
        "-y",
        "-L",
        "4M",
        "-n",
        name,
        "--addtag",
        "quarry.kind=volume",
        "--addtag",
        "quarry.name=x",
        "own",
    ])?;
    for (call, code) in codes(ground, &volume.id).await? {
        ensure!(code == Some(Code::FailedPrecondition), "{call} answered {code:?}");
    }
    let answer = ground.client().controller.create_volume(create(&volume.name, 4 * MIB, block())).await;
    refused(answer, Code::FailedPrecondition, &["main", "own", "rename one"])?;
    lvm(&["lvrename", "-qq", "own", name, "elsewhere"])?;
    ensure!(volume.size().await? == volume.bytes);
    volume.remove().await?;
    group.remove()
}

async fn renamed_by_an_admin(ground: &Ground) -> Result<()> {
    let volume = ground.volume("renamed", 4, block()).await?;
    lvm(&["lvrename", "-qq", "main", volume.logical_name(), "new-name"])?;
    is_unknown(ground, &volume.id, None).await?;
    let get = v1::ControllerGetVolumeRequest { volume_id: String::from("lab-node/new-name") };
    answered(ground.client().controller.controller_get_volume(get).await)?;
    lvm(&["lvchange", "-qq", "--deltag", "quarry.kind=volume", "main/new-name"])?;
    is_unknown(ground, "lab-node/new-name", None).await?;
    lvm(&["lvchange", "-qq", "--addtag", "quarry.kind=volume", "main/new-name"])?;
    lvm(&["lvrename", "-qq", "main", "new-name", volume.logical_name()])?;
    lvm(&["lvextend", "-qq", "-l", "+1", &volume.full_name()])?;
    ensure!(volume.size().await? == volume.bytes + 4 * MIB, "its new size is not seen");
    volume.remove().await
}
