//! Sizes: of new volumes and of growth.

use anyhow::{Result, ensure};
use quarry::csi::v1;
use tonic::Code::{AlreadyExists, OutOfRange, ResourceExhausted};

use crate::client::{block, create, mounted};
use crate::inside::check::{Ground, MIB, answered, refused};

/// LVM's default.
const EXTENT: i64 = 4 * MIB;

cases! {
    "negative sizes are refused by their field" => negative,
    "a required size above the limit is refused" => contradictory,
    "sizes beyond any disk are refused and nothing is made" => huge,
    "a limit below one extent is refused" => limit_below_an_extent,
    "one byte less, one byte more and a whole extent are rounded up to extents" => around_an_extent,
    "a limit that the rounding would pass is refused" => limit_within_the_last_extent,
    "without sizes a volume has its class's default" => default_size,
    "a limit alone is kept" => limit_alone,
    "a volume too small for its file system is refused with what it needs" => too_small_for_a_file_system,
    "another size under the same name is refused, a fitting one answered" => same_name_other_size,
    "growth by negative, contradictory and huge sizes is refused and nothing grows" => bad_growth,
    "growth rounds up to extents, and one to less changes nothing" => growth_around_an_extent,
}

fn sized(name: &str, required: i64, limit: i64) -> v1::CreateVolumeRequest {
    v1::CreateVolumeRequest {
        capacity_range: Some(v1::CapacityRange { required_bytes: required, limit_bytes: limit }),
        ..create(name, 0, block())
    }
}

async fn negative(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let answer = controller.create_volume(sized("negative", -1, 0)).await;
    refused(answer, OutOfRange, &["required_bytes", "-1 is negative"])?;
    let answer = controller.create_volume(sized("negative", 0, i64::MIN)).await;
    refused(answer, OutOfRange, &["limit_bytes", "negative"])
}

async fn contradictory(ground: &Ground) -> Result<()> {
    let answer = ground.client().controller.create_volume(sized("contradictory", 8 * MIB, 4 * MIB)).await;
    refused(answer, OutOfRange, &["8388608", "4194304"])
}

async fn huge(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    refused(controller.create_volume(sized("huge", i64::MAX, 0)).await, OutOfRange, &["required_bytes"])?;
    let answer = controller.create_volume(sized("huge", i64::MAX - EXTENT, 0)).await;
    refused(answer, ResourceExhausted, &["main"])?;
    refused(controller.create_volume(sized("huge", 1 << 50, 0)).await, ResourceExhausted, &["main", "at most"])
}

async fn limit_below_an_extent(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    for limit in [1, EXTENT - 1] {
        let answer = controller.create_volume(sized("limit", 0, limit)).await;
        refused(answer, OutOfRange, &["limit_bytes", &limit.to_string(), "4194304"])?;
    }
    refused(controller.create_volume(sized("limit", 1, EXTENT - 1)).await, OutOfRange, &["limit_bytes"])
}

async fn around_an_extent(ground: &Ground) -> Result<()> {
    for (required, expected) in
        [(1, EXTENT), (EXTENT - 1, EXTENT), (EXTENT, EXTENT), (EXTENT + 1, 2 * EXTENT), (2 * EXTENT - 1, 2 * EXTENT)]
    {
        let volume = ground.volume_from(sized(&ground.name("around"), required, 0), "main").await?;
        ensure!(volume.bytes == expected, "{required} became {}, not {expected}", volume.bytes);
        volume.remove().await?;
    }
    Ok(())
}

async fn limit_within_the_last_extent(ground: &Ground) -> Result<()> {
    let answer = ground.client().controller.create_volume(sized("last", EXTENT + 1, 2 * EXTENT - 1)).await;
    refused(answer, OutOfRange, &["limit_bytes", "8388608"])?;
    let volume = ground.volume_from(sized(&ground.name("last"), EXTENT + 1, 2 * EXTENT), "main").await?;
    ensure!(volume.bytes == 2 * EXTENT, "it has {} bytes", volume.bytes);
    volume.remove().await
}

async fn default_size(ground: &Ground) -> Result<()> {
    for capacity_range in [None, Some(v1::CapacityRange::default())] {
        let request = v1::CreateVolumeRequest { capacity_range, ..create(&ground.name("default"), 0, block()) };
        let volume = ground.volume_from(request, "main").await?;
        ensure!(volume.bytes == 12 * MIB, "it has {} bytes", volume.bytes);
        volume.remove().await?;
    }
    Ok(())
}

async fn limit_alone(ground: &Ground) -> Result<()> {
    for (limit, expected) in [(EXTENT, EXTENT), (2 * EXTENT + 5, 2 * EXTENT), (100 * EXTENT, 12 * MIB)] {
        let volume = ground.volume_from(sized(&ground.name("limit"), 0, limit), "main").await?;
        ensure!(volume.bytes == expected, "limit {limit} became {}, not {expected}", volume.bytes);
        volume.remove().await?;
    }
    Ok(())
}

async fn too_small_for_a_file_system(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    for (file_system, bytes) in [("xfs", 299 * MIB), ("btrfs", 108 * MIB), ("ext4", 1)] {
        let answer = controller.create_volume(create("small", bytes, mounted(file_system))).await;
        refused(answer, OutOfRange, &["required_bytes", &bytes.to_string(), file_system])?;
    }
    Ok(())
}

async fn same_name_other_size(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let volume = ground.volume("same", 8, block()).await?;
    let answer = controller.create_volume(sized(&volume.name, 8 * MIB + 1, 0)).await;
    refused(answer, AlreadyExists, &["capacity_range", "8388608"])?;
    let answer = controller.create_volume(sized(&volume.name, 0, 4 * MIB)).await;
    refused(answer, AlreadyExists, &["capacity_range"])?;
    for request in [sized(&volume.name, 8 * MIB, 8 * MIB), sized(&volume.name, 1, 0), sized(&volume.name, 5 * MIB, 0)] {
        let answer = answered(controller.create_volume(request).await)?;
        ensure!(answer.volume.is_some_and(|made| made.volume_id == volume.id && made.capacity_bytes == 8 * MIB));
    }
    volume.remove().await
}

fn growth(volume_id: &str, required: i64, limit: i64) -> v1::ControllerExpandVolumeRequest {
    v1::ControllerExpandVolumeRequest {
        volume_id: volume_id.to_owned(),
        capacity_range: Some(v1::CapacityRange { required_bytes: required, limit_bytes: limit }),
        ..v1::ControllerExpandVolumeRequest::default()
    }
}

async fn bad_growth(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let volume = ground.volume("growth", 8, block()).await?;
    for (required, limit, words) in [
        (-1, 0, ["required_bytes", "negative"]),
        (0, -1, ["limit_bytes", "negative"]),
        (16 * MIB, 12 * MIB, ["required_bytes", "limit_bytes"]),
        (i64::MAX, 0, ["required_bytes", "beyond"]),
        (1 << 50, 0, ["required_bytes", "main"]),
        (0, 4 * MIB, ["limit_bytes", "never made smaller"]),
        (8 * MIB + 1, 12 * MIB - 1, ["limit_bytes", "12582912"]),
    ] {
        let answer = controller.controller_expand_volume(growth(&volume.id, required, limit)).await;
        refused(answer, OutOfRange, &words)?;
        ensure!(volume.size().await? == 8 * MIB, "it grew by {required}, {limit}");
    }
    volume.remove().await
}

async fn growth_around_an_extent(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let volume = ground.volume("growth", 8, block()).await?;
    for (required, expected) in [
        (1, 8 * MIB),
        (8 * MIB, 8 * MIB),
        (8 * MIB + 1, 12 * MIB),
        (12 * MIB, 12 * MIB),
        (16 * MIB - 1, 16 * MIB),
        (4 * MIB, 16 * MIB),
    ] {
        let answer = answered(controller.controller_expand_volume(growth(&volume.id, required, 0)).await)?;
        ensure!(answer.capacity_bytes == expected, "{required} became {}, not {expected}", answer.capacity_bytes);
        ensure!(volume.size().await? == expected, "another size is listed");
    }
    volume.remove().await
}
