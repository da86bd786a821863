//! Capacity is arithmetic, not hope: what it promises can be had, and not an extent more.

pub mod at_random;

use std::collections::HashMap;

use anyhow::{Result, ensure};
use quarry::csi::v1;
use tonic::Code::{InvalidArgument, ResourceExhausted};

use crate::client::{block, class, mounted};
use crate::inside::check::{Ground, Group, MIB, answered, lvm, refused};

use super::{capacity_of, with_flags};

cases! {
    "a volume of exactly the maximum can be made, one of an extent more cannot" => exact,
    "with a reserve as a share the maximum is exact" => share_reserved,
    "with a reserve in bytes the maximum is exact" => bytes_reserved,
    "over several disks with pieces taken the maximum is exact" => in_pieces,
    "with extents of another size the maximum is exact" => other_extents,
    "capacity falls with a new volume and rises when the deleted one is gone" => falls_and_rises,
    "another node's topology, an unknown class and an impossible use have no capacity" => none,
    "an unknown parameter is refused" => unknown_parameter,
    "the smallest volume is one extent" => smallest,
    "in a random state of a group the maximum of each class is exact" => random_state,
    "a file system that needs more than there is has no room, and its smallest volume is told" => file_system_needs_more,
}

/// Makes a volume of the maximum of the class, and sees that an extent more is refused before and after.
async fn maximum_is_exact(ground: &Ground, class: &str, extent: i64) -> Result<()> {
    let (available, largest) = capacity_of(ground, class).await?;
    ensure!(largest > 0 && available == largest, "available are {available}, for one volume {largest}");
    for bytes in [largest + 1, largest + extent] {
        let request = ground.request(class, "too-much", bytes, block());
        let words = &["own", &format!("at most {largest} bytes")];
        refused(ground.client().controller.create_volume(request).await, ResourceExhausted, words)?;
    }
    let request = ground.request(class, &ground.name("largest"), largest, block());
    let volume = ground.volume_from(request, "own").await?;
    ensure!(volume.bytes == largest, "it has {} bytes, not {largest}", volume.bytes);
    ensure!(capacity_of(ground, class).await? == (0, 0), "something is left");
    let request = ground.request(class, "too-much", 1, block());
    refused(ground.client().controller.create_volume(request).await, ResourceExhausted, &["own"])?;
    volume.remove().await
}

async fn exact(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    maximum_is_exact(ground, "own", 4 * MIB).await?;
    group.remove()
}

async fn share_reserved(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 40)?;
    let (_, all) = capacity_of(ground, "own").await?;
    let (_, reserved) = capacity_of(ground, "share-reserved").await?;
    // A quarter of nine extents, rounded up, is three.
    ensure!(all == 36 * MIB && reserved == 24 * MIB, "{all} and {reserved}");
    maximum_is_exact(ground, "share-reserved", 4 * MIB).await?;
    group.remove()
}

async fn bytes_reserved(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 40)?;
    let (_, reserved) = capacity_of(ground, "bytes-reserved").await?;
    ensure!(reserved == 24 * MIB, "{reserved}");
    maximum_is_exact(ground, "bytes-reserved", 4 * MIB).await?;
    group.remove()
}

async fn in_pieces(ground: &Ground) -> Result<()> {
    let group = Group::make("own", vec![ground.slice(24)?, ground.slice(32)?])?;
    for name in ["a", "b", "c"] {
        lvm(&["lvcreate", "-qq", "-y", "-l", "1", "-n", name, "own"])?;
    }
    lvm(&["lvremove", "-qq", "-y", "own/b"])?;
    maximum_is_exact(ground, "own", 4 * MIB).await?;
    group.remove()
}

async fn other_extents(ground: &Ground) -> Result<()> {
    for size in ["1m", "12m"] {
        let slice = ground.slice(64)?;
        lvm(&["vgcreate", "-qq", "--physicalextentsize", size, "own", &slice.path()])?;
        let group = Group { name: String::from("own"), slices: vec![slice] };
        let extent: i64 = size.trim_end_matches('m').parse()?;
        maximum_is_exact(ground, "own", extent * MIB).await?;
        group.remove()?;
    }
    Ok(())
}

async fn falls_and_rises(ground: &Ground) -> Result<()> {
    let (before, _) = capacity_of(ground, "main").await?;
    let volume = ground.volume("room", 8, block()).await?;
    ensure!(capacity_of(ground, "main").await?.0 == before - 8 * MIB);
    volume.grow(16 * MIB).await?;
    ensure!(capacity_of(ground, "main").await?.0 == before - 16 * MIB);
    volume.remove().await?;
    ensure!(capacity_of(ground, "main").await?.0 == before);
    Ok(())
}

async fn none(ground: &Ground) -> Result<()> {
    let segments =
        |key: &str, value: &str| Some(v1::Topology { segments: [(key.to_owned(), value.to_owned())].into() });
    let key = "topology.lvm.quarry.storage/node";
    let empty = v1::GetCapacityRequest::default;
    for (request, is_some) in [
        (v1::GetCapacityRequest { accessible_topology: segments(key, "lab-node"), ..empty() }, true),
        (v1::GetCapacityRequest { accessible_topology: segments(key, "other-node"), ..empty() }, false),
        (v1::GetCapacityRequest { accessible_topology: segments("zone", "x"), ..empty() }, true),
        (v1::GetCapacityRequest { parameters: class("gold"), ..empty() }, false),
        (v1::GetCapacityRequest { parameters: class("absent"), ..empty() }, false),
        (v1::GetCapacityRequest { volume_capabilities: vec![mounted("ntfs")], ..empty() }, false),
        (v1::GetCapacityRequest { volume_capabilities: vec![with_flags("ext4", &["loop"])], ..empty() }, false),
        (v1::GetCapacityRequest { volume_capabilities: vec![mounted("xfs")], ..empty() }, true),
        (empty(), true),
    ] {
        let answer = answered(ground.client().controller.get_capacity(request.clone()).await)?;
        let has_some = answer.available_capacity > 0 && answer.maximum_volume_size.is_some_and(|size| size > 0);
        ensure!(has_some == is_some, "{request:?} was answered {answer:?}");
    }
    Ok(())
}

async fn unknown_parameter(ground: &Ground) -> Result<()> {
    let request = v1::GetCapacityRequest {
        parameters: [(String::from("clas"), String::from("main"))].into(),
        ..v1::GetCapacityRequest::default()
    };
    refused(ground.client().controller.get_capacity(request).await, InvalidArgument, &["parameters.clas"])
}

async fn file_system_needs_more(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 64)?;
    let request = |file_system: &str| v1::GetCapacityRequest {
        parameters: class("own"),
        volume_capabilities: vec![mounted(file_system)],
        ..v1::GetCapacityRequest::default()
    };
    let answer = answered(ground.client().controller.get_capacity(request("xfs")).await)?;
    ensure!(answer.available_capacity == 0 && answer.maximum_volume_size == Some(0), "{answer:?}");
    let answer = answered(ground.client().controller.get_capacity(request("ext4")).await)?;
    ensure!(answer.maximum_volume_size > Some(0) && answer.minimum_volume_size == Some(4 * MIB), "{answer:?}");
    group.remove()?;
    let xfs = v1::GetCapacityRequest { parameters: HashMap::default(), ..request("xfs") };
    let answer = answered(ground.client().controller.get_capacity(xfs).await)?;
    let least = answer.minimum_volume_size.unwrap_or_default();
    ensure!(least == 300 * MIB, "{answer:?}");
    ground.volume("least", least / MIB, mounted("xfs")).await?.remove().await
}

/// Fixed, so that a failure can be looked into; `quarry-trial capacity` takes others.
const SEED: u64 = 20_264;

async fn random_state(ground: &Ground) -> Result<()> {
    let tried = at_random::run(ground, &at_random::Options { groups: 1, states: 1, seed: SEED }).await?;
    ensure!(tried.taken > 0, "{tried:?}");
    super::classes::original_again(ground).await
}

async fn smallest(ground: &Ground) -> Result<()> {
    let answer = answered(ground.client().controller.get_capacity(v1::GetCapacityRequest::default()).await)?;
    ensure!(answer.minimum_volume_size == Some(4 * MIB), "{answer:?}");
    Ok(())
}
