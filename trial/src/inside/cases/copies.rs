//! Copies that take their time: what they show, their progress and their pace.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::Aborted;

use super::sources::{copy, end, forget, of_snapshot, of_volume, request, snapshot, spoil};
use crate::client::{block, mounted};
use crate::inside::check::{Ground, MIB, answered, digest, eventually, fill, lvm, metrics, refused, run, write_at};

cases! {
    "a raw copy shows nothing of what was on its blocks before" => raw_shows_nothing,
    "a copy goes on after a crash where it was" => goes_on,
    "a copy is not faster than its class allows, and a metric says how far it is" => paced,
    "a volume that nobody used is inactive again after it was copied" => inactive_again,
}

async fn raw_shows_nothing(ground: &Ground) -> Result<()> {
    for class in ["thin", "own"] {
        // A raw copy of a file system is its user's block by block, too.
        for capability in [mounted("ext4"), block()] {
            let group = ground.group("own", 240)?;
            spoil("own")?;
            let place = ground.volume_in("left", "own", "place", 80, block()).await?;
            let source = ground.volume_in(class, "own", "source", 40, capability).await?;
            place.remove().await?;
            source.stage().await?;
            let target = source.publish("user").await?;
            if source.is_block() {
                write_at(&target, 0, &vec![0; 40 << 20])?;
                write_at(&target, 9 << 20, &[7; 8192])?;
            } else {
                fs::write(target.join("file"), vec![7; 100_000])?;
            }
            let taken = snapshot(ground, &source, &ground.name("snap")).await?;
            let wanted = request(ground, "left", of_snapshot(&taken), 40 * MIB, block());
            let made = ground.volume_from(wanted, "own").await?;
            made.stage().await?;
            let seen = made.publish("user").await?;
            let frozen = snapshot_digest(&taken)?;
            ensure!(digest(&seen)? == frozen, "{class}: not what was there, block by block");
            made.remove().await?;
            forget(ground, &taken).await?;
            source.remove().await?;
            end(group)?;
        }
    }
    Ok(())
}

/// What a snapshot holds, without the node.
fn snapshot_digest(taken: &v1::Snapshot) -> Result<u64> {
    let name = taken.snapshot_id.split_once('/').map_or("", |(_, name)| name);
    let full = format!("own/{name}");
    lvm(&["lvchange", "-qq", "-y", "-ay", "-K", &full])?;
    run(&["udevadm", "settle"])?;
    let held = digest(Path::new(&format!("/dev/{full}")));
    run(&["udevadm", "settle"])?;
    if lvm(&["lvs", "--noheadings", "-o", "segtype", &full])?.trim() == "thin" {
        lvm(&["lvchange", "-qq", "-an", &full])?;
    }
    held
}

async fn goes_on(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 3_400)?;
    let source = ground.volume_in("own", "own", "source", 1_300, block()).await?;
    source.stage().await?;
    let device = source.publish("user").await?;
    fill(&device)?;
    let held = digest(&device)?;
    let taken = snapshot(ground, &source, &ground.name("snap")).await?;
    let wanted = request(ground, "paced", of_snapshot(&taken), 1_300 * MIB, block());
    let call = tokio::spawn({
        let (mut client, request) = (ground.client(), wanted.clone());
        async move { client.controller.create_volume(request).await }
    });
    eventually("it is remembered how far the copy is", || async {
        Ok(lvm(&["lvs", "--noheadings", "-o", "lv_tags", "own"])?.contains("quarry.copied="))
    })
    .await?;
    ground.crash().await?;
    let _broken_off = call.await;
    let made = ground.volume_from(wanted, "own").await?;
    let log = ground.log()?;
    let goes_on = |line: &str| {
        let (_, left) = line.split_once(" left=")?;
        left.split(' ').next()?.parse::<i64>().ok()
    };
    let lines = log.lines().filter(|line| line.contains("copies block by block") && line.contains(made.logical_name()));
    let left: Vec<i64> = lines.filter_map(goes_on).collect();
    ensure!(left.len() == 2 && left[0] == 1_300 * MIB && left[1] < 300 * MIB, "{left:?} bytes were left");
    ensure!(!made.tags()?.contains("quarry.copied="));
    made.stage().await?;
    ensure!(digest(&made.publish("user").await?)? == held, "not what was there");
    made.remove().await?;
    forget(ground, &taken).await?;
    source.remove().await?;
    end(group)
}

async fn paced(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 1_000)?;
    let source = ground.volume_in("own", "own", "source", 400, block()).await?;
    source.stage().await?;
    let wanted = request(ground, "paced", of_volume(&source), 400 * MIB, block());
    let (begun, name) = (Instant::now(), wanted.name.clone());
    let call = tokio::spawn({
        let (mut client, request) = (ground.client(), wanted.clone());
        async move { client.controller.create_volume(request).await }
    });
    let series = |what: &str| format!("quarry_copy{what}_bytes{{volume=\"{name}\",class=\"paced\"}} ");
    eventually("the metric tells how far it is", || async {
        let text = metrics("/metrics")?.1;
        let value = |series: &str| text.lines().find_map(|line| line.strip_prefix(series)?.parse::<i64>().ok());
        Ok(value(&series("")) == Some(400 * MIB)
            && value(&series("_done")).is_some_and(|done| (1..400 * MIB).contains(&done)))
    })
    .await?;
    refused(ground.client().controller.create_volume(wanted.clone()).await, Aborted, &["copied", "of 400 MiB"])?;
    answered(call.await?)?;
    ensure!(begun.elapsed() >= Duration::from_secs(4), "400 MiB took {:?}", begun.elapsed());
    ensure!(!metrics("/metrics")?.1.contains("quarry_copy_bytes{"));
    ground.volume_from(wanted, "own").await?.remove().await?;
    source.remove().await?;
    end(group)
}

async fn inactive_again(ground: &Ground) -> Result<()> {
    for class in ["own", "thin"] {
        let group = ground.group("own", 400)?;
        let place = ground.volume_in("own", "own", "place", 80, block()).await?;
        let source = ground.volume_in(class, "own", "source", 40, block()).await?;
        place.remove().await?;
        let taken = snapshot(ground, &source, &ground.name("snap")).await?;
        for of in [of_snapshot(&taken), of_volume(&source)] {
            let made = copy(ground, "left", of, 40 * MIB, &source).await?;
            let active = || lvm(&["lvs", "--noheadings", "-o", "lv_active", &source.full_name()]);
            eventually("its device is gone", || async { Ok(active()?.trim() != "active") }).await?;
            made.remove().await?;
        }
        // One that is in use stays.
        source.stage().await?;
        let made = copy(ground, "left", of_snapshot(&taken), 40 * MIB, &source).await?;
        source.device().context("it is in use")?;
        made.remove().await?;
        forget(ground, &taken).await?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}
