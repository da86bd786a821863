//! Lists of volumes, page by page.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::{Aborted, InvalidArgument};

use crate::client::block;
use crate::inside::check::{Ground, Volume, answered, lvm, refused};

cases! {
    "pages of every size hold every volume once" => pages,
    "a volume that comes or goes between two pages loses none of the others" => pages_while_changing,
    "tokens that were never given out and negative sizes are refused" => bad_tokens,
    "only our volumes are listed, and not those that are being deleted" => only_ours,
}

async fn page(ground: &Ground, most: i32, token: &str) -> Result<(Vec<String>, String)> {
    let request = v1::ListVolumesRequest { max_entries: most, starting_token: token.to_owned() };
    let answer = answered(ground.client().controller.list_volumes(request).await)?;
    let ids = answer.entries.into_iter().map(|entry| Ok(entry.volume.context("an entry without a volume")?.volume_id));
    Ok((ids.collect::<Result<_>>()?, answer.next_token))
}

async fn volumes(ground: &Ground, count: usize) -> Result<Vec<Volume<'_>>> {
    let mut volumes = Vec::new();
    for _ in 0..count {
        volumes.push(ground.volume("listed", 4, block()).await?);
    }
    Ok(volumes)
}

async fn pages(ground: &Ground) -> Result<()> {
    let volumes = volumes(ground, 5).await?;
    let expected: BTreeSet<String> = volumes.iter().map(|volume| volume.id.clone()).collect();
    for most in [0, 1, 2, 3, 5, 6, i32::MAX] {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let (ids, next) = page(ground, most, &token).await?;
            ensure!(
                most == 0 || ids.len() <= usize::try_from(most)?,
                "a page of {} where {most} are allowed",
                ids.len()
            );
            listed.extend(ids);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        ensure!(listed.len() == 5, "pages of {most}: {listed:?}");
        ensure!(listed.iter().cloned().collect::<BTreeSet<_>>() == expected, "pages of {most}: {listed:?}");
    }
    for volume in volumes {
        volume.remove().await?;
    }
    Ok(())
}

async fn pages_while_changing(ground: &Ground) -> Result<()> {
    let mut volumes = volumes(ground, 5).await?;
    volumes.sort_by(|one, other| one.id.cmp(&other.id));
    let (first, token) = page(ground, 2, "").await?;
    ensure!(first == [volumes[0].id.clone(), volumes[1].id.clone()], "{first:?}");
    let later = [volumes[2].id.clone(), volumes[4].id.clone()];
    // The one that the token names, one before it, and one after it.
    for index in [3, 1, 0] {
        volumes.remove(index).remove().await?;
    }
    let (rest, token) = page(ground, 10, &token).await?;
    ensure!(rest == later && token.is_empty(), "{rest:?}");
    for volume in volumes {
        volume.remove().await?;
    }
    Ok(())
}

async fn bad_tokens(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    for token in ["0", "17", "garbage", "after:", "\u{1f980}"] {
        let request = v1::ListVolumesRequest { max_entries: 1, starting_token: token.to_owned() };
        refused(controller.list_volumes(request).await, Aborted, &["starting_token", token])?;
        let request = v1::ControllerListVolumeHealthRequest {
            starting_token: token.to_owned(),
            ..v1::ControllerListVolumeHealthRequest::default()
        };
        refused(controller.controller_list_volume_health(request).await, Aborted, &["starting_token"])?;
    }
    let request = v1::ListVolumesRequest { max_entries: -1, starting_token: String::new() };
    refused(controller.list_volumes(request).await, InvalidArgument, &["max_entries", "-1"])
}

async fn only_ours(ground: &Ground) -> Result<()> {
    lvm(&["lvcreate", "-qq", "-y", "-l", "1", "-n", "foreign", "main"])?;
    let group = ground.group("own", 64)?;
    let ours = ground.volume("ours", 4, block()).await?;
    let deleted = ground.volume_in("own", "own", "deleted", 40, block()).await?;
    group.slice()?.slow_down(100)?;
    deleted.delete().await?;
    let (listed, _) = page(ground, 0, "").await?;
    ensure!(listed == [ours.id.clone()], "{listed:?}");
    group.slice()?.repair()?;
    deleted.gone().await?;
    lvm(&["lvremove", "-qq", "-y", "main/foreign"])?;
    ours.remove().await?;
    group.remove()
}
