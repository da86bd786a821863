//! An lvm that does not come to its end while it holds a volume back for a snapshot: the volume's users go on.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tonic::Code::Unavailable;

use super::sources::{LAYOUTS, end, forget, snapshot, snapshot_request};
use super::writer::Writer;
use crate::client::mounted;
use crate::inside::check::{Ground, Volume, refused, run};

cases! {
    "a volume that lvm is stopped over while it makes its snapshot goes on after ten seconds" => stopped,
    "a volume that lvm is killed over while it makes its snapshot goes on" => killed,
}

async fn stopped(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        let began = Instant::now();
        broken_off(ground, class, "STOP").await?;
        ensure!(began.elapsed() > Duration::from_secs(10), "{class}: lvm was not stopped");
        ensure!(ground.log()?.contains("killing it"), "{class}: the log does not say so");
    }
    Ok(())
}

async fn killed(ground: &Ground) -> Result<()> {
    for class in LAYOUTS {
        broken_off(ground, class, "KILL").await?;
    }
    Ok(())
}

/// Sends a signal to lvm while it holds a volume back that is written to.
async fn broken_off(ground: &Ground, class: &str, signal: &str) -> Result<()> {
    let group = ground.group("own", 200)?;
    let source = ground.volume_in(class, "own", "source", 40, mounted("ext4")).await?;
    source.stage().await?;
    let file = source.publish("user").await?.join("number");
    let (mut tries, name) = (0, ground.name("snap"));
    loop {
        tries += 1;
        ensure!(tries <= 20, "{class}: in {tries} tries lvm was never caught while it held the volume back");
        let writer = Writer::start(std::slice::from_ref(&file))?;
        writer.goes_on().await?;
        // Else the moment is over in a few milliseconds.
        group.slice()?.slow_down(100)?;
        let (mut client, request) = (ground.client(), snapshot_request(&source, &name));
        let call = tokio::spawn(async move { client.controller.create_snapshot(request).await });
        let mut is_caught = false;
        while !is_caught && !call.is_finished() {
            is_caught = source.is_suspended()? && signal_lvm(&source, signal);
            tokio::task::yield_now().await;
        }
        let answer = call.await?;
        group.slice()?.repair()?;
        ensure!(!source.is_suspended()?, "{class}: it is held back after the answer {answer:?}");
        writer.goes_on().await?;
        // Where lvm had done its work the snapshot is there.
        if is_caught && answer.is_err() && signal == "STOP" {
            refused(answer, Unavailable, &["held own/", "try again"])?;
        }
        writer.end()?;
        let written = fs::read(&file)?;
        let taken = snapshot(ground, &source, &name).await?;
        forget(ground, &taken).await?;
        ensure!(fs::read(&file)? == written);
        if is_caught {
            break;
        }
    }
    source.remove().await?;
    end(group)
}

/// Whether lvm was making a snapshot of the volume, and so got the signal.
fn signal_lvm(source: &Volume<'_>, signal: &str) -> bool {
    let pattern = format!("lvm lvcreate .* --snapshot .*{}$", source.full_name());
    run(&["pkill", &format!("-{signal}"), "--full", &pattern]).is_ok()
}
