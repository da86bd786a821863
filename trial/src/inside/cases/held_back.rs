//! An lvm that does not come to its end while it holds a volume back for a snapshot: the volume's users go on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tonic::Code::Unavailable;

use super::sources::{LAYOUTS, end, forget, logical_name, snapshot, snapshot_request};
use super::writer::{Writer, number_held, number_in};
use crate::client::mounted;
use crate::inside::check::{Ground, Volume, lvm, refused, run};

cases! {
    "a volume that lvm is stopped over while it makes its snapshot goes on after ten seconds" => stopped,
    "a volume that lvm is killed over while it makes its snapshot goes on" => killed,
}

async fn stopped(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let waited = broken_off(ground, class, "STOP").await?.as_secs();
        ensure!((10..25).contains(&waited), "{class}: it was held back for {waited} s");
    }
    Ok(())
}

async fn killed(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        broken_off(ground, class, "KILL").await?;
    }
    Ok(())
}

/// Sends a signal to lvm while it holds a volume back that is written to. How long the answer took from then on.
async fn broken_off(ground: &Ground, class: &str, signal: &str) -> Result<Duration> {
    let group = ground.group("own", 200)?;
    let source = ground.volume_in(class, "own", "source", 40, mounted("ext4")).await?;
    source.stage().await?;
    let file = source.publish("user").await?.join("number");
    let (mut tries, name) = (0, ground.name("snap"));
    let waited = loop {
        tries += 1;
        ensure!(tries <= 20, "{class}: in {tries} tries lvm was never caught while it held the volume back");
        let writer = Writer::start(std::slice::from_ref(&file))?;
        writer.goes_on().await?;
        // Else the moment is over in a few milliseconds.
        group.slice()?.slow_down(100)?;
        let (mut client, request, before) = (ground.client(), snapshot_request(&source, &name), writer.written());
        let call = tokio::spawn(async move { client.controller.create_snapshot(request).await });
        let mut is_caught = false;
        while !is_caught && !call.is_finished() {
            is_caught = source.is_suspended()? && signal_lvm(&source, signal);
            tokio::task::yield_now().await;
        }
        let caught = Instant::now();
        let answer = call.await?;
        let waited = caught.elapsed();
        group.slice()?.repair()?;
        ensure!(!source.is_suspended()?, "{class}: it is held back after the answer {answer:?}");
        writer.goes_on().await?;
        // Where lvm had done its work the snapshot is there.
        if is_caught && answer.is_err() && signal == "STOP" {
            refused(answer, Unavailable, &["held own/", "try again"])?;
        }
        let taken = snapshot(ground, &source, &name).await?;
        let after = writer.end()?;
        ensure!(number_in(&file)? == after, "{class}: a write is lost");
        let logical = format!("own/{}", logical_name(&taken)?);
        lvm(&["lvchange", "-q", "-ay", "-K", "--yes", &logical])?;
        let held = number_held(&logical)?;
        ensure!((before..=after).contains(&held), "{class}: the snapshot holds {held}, not {before} to {after}");
        forget(ground, &taken).await?;
        if is_caught {
            break waited;
        }
    };
    source.remove().await?;
    end(group)?;
    Ok(waited)
}

/// Whether lvm was making a snapshot of the volume, and so got the signal.
fn signal_lvm(source: &Volume<'_>, signal: &str) -> bool {
    let pattern = format!("lvm lvcreate .* --snapshot .*{}$", source.full_name());
    run(&["pkill", &format!("-{signal}"), "--full", &pattern]).is_ok()
}
