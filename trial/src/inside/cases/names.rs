//! Names of volumes: whatever the protocol allows, whatever LVM thinks of it.

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::InvalidArgument;

use crate::client::{block, create};
use crate::inside::check::{Ground, MIB, answered, refused};

cases! {
    "a name of 128 bytes is taken, one of 129 refused" => longest,
    "every control character but tab and line ends is refused" => control_characters,
    "every other kind of character makes a volume that is found again by its name" => legal_characters,
    "names that LVM keeps for itself make volumes" => reserved_by_lvm,
    "two names that differ only beyond LVM's limit are two volumes" => differ_beyond_the_limit,
    "a name that looks like another one's shortened form is a volume of its own" => looks_derived,
}

async fn longest(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    for name in ["n".repeat(129), "ä".repeat(65)] {
        let answer = controller.create_volume(create(&name, 4 * MIB, block())).await;
        refused(answer, InvalidArgument, &["name", &name.len().to_string(), "128"])?;
    }
    both_ways(ground, &"n".repeat(128)).await?;
    both_ways(ground, &"ä".repeat(64)).await
}

async fn control_characters(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let characters = ('\0'..'\u{20}').chain('\u{7f}'..'\u{a0}');
    for character in characters.filter(|character| !"\t\n\r".contains(*character)) {
        let answer = controller.create_volume(create(&format!("a{character}b"), 4 * MIB, block())).await;
        refused(answer, InvalidArgument, &["name", &format!("U+{:04X}", u32::from(character))])?;
    }
    Ok(())
}

async fn legal_characters(ground: &Ground) -> Result<()> {
    for name in [
        "tab\tnewline\nreturn\r",
        " leading and trailing ",
        "emoji 🦀👩‍👩‍👧",
        "\u{202e}right to left\u{feff}",
        "e\u{301} is not é",
        "日本語/..\\\"'$(reboot);`x`%s*?[a]",
        "--yes",
    ] {
        both_ways(ground, name).await?;
    }
    Ok(())
}

async fn reserved_by_lvm(ground: &Ground) -> Result<()> {
    for name in ["snapshot-1", "pvmove0", "pool_tdata", "x_rimage_0", ".", "..", "-x"] {
        both_ways(ground, name).await?;
    }
    Ok(())
}

/// Makes a volume of the name, finds it again by the name and in the list, and deletes it.
async fn both_ways(ground: &Ground, name: &str) -> Result<()> {
    let mut controller = ground.client().controller;
    let volume = ground
        .volume_from(create(name, 4 * MIB, block()), "main")
        .await
        .with_context(|| name.escape_debug().to_string())?;
    ensure!(volume.id.len() <= 128 && volume.id.is_ascii(), "{:?} is no good id", volume.id);
    let again = answered(controller.create_volume(create(name, 4 * MIB, block())).await)?;
    ensure!(again.volume.is_some_and(|again| again.volume_id == volume.id), "{name:?} is another volume now");
    let list = answered(controller.list_volumes(v1::ListVolumesRequest::default()).await)?;
    let is_listed = |entry: &v1::list_volumes_response::Entry| {
        entry.volume.as_ref().is_some_and(|listed| listed.volume_id == volume.id)
    };
    ensure!(list.entries.iter().any(is_listed), "{name:?} is not listed");
    volume.remove().await
}

async fn differ_beyond_the_limit(ground: &Ground) -> Result<()> {
    let start = "z".repeat(127);
    let mut volumes = Vec::new();
    for end in ["a", "b"] {
        volumes.push(ground.volume_from(create(&format!("{start}{end}"), 4 * MIB, block()), "main").await?);
    }
    ensure!(volumes[0].id != volumes[1].id, "both are {}", volumes[0].id);
    for volume in volumes {
        volume.remove().await?;
    }
    Ok(())
}

async fn looks_derived(ground: &Ground) -> Result<()> {
    let first = ground.volume_from(create("of two words", 4 * MIB, block()), "main").await?;
    let second = ground.volume_from(create(first.logical_name(), 4 * MIB, block()), "main").await?;
    ensure!(first.id != second.id, "both are {}", first.id);
    first.remove().await?;
    second.remove().await
}
