//! The commands beside the node, on the same machine.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::client::{block, mounted};
use crate::inside::check::{Ground, StandIn, Volume, run};
use crate::site::NODE_NAME;

cases! {
    "`quarry volumes` tells where each volume is in its life" => volumes,
    "`quarry volumes` shows a volume that is being deleted, also while lvm hangs" => deleting,
    "`quarry doctor` is content with this machine" => doctor,
}

/// What `quarry volumes` says of a volume.
fn row(ground: &Ground, volume: &Volume<'_>) -> Result<Value> {
    let program = ground.program().to_string_lossy();
    let printed = run(&[&program, "volumes", "--node-name", NODE_NAME, "--output", "json"])?;
    let answer: Value = serde_json::from_str(&printed)?;
    let rows = answer["volumes"].as_array().context("no list of volumes")?;
    let row = rows.iter().find(|row| row["id"] == volume.id.as_str());
    row.cloned().with_context(|| format!("{} is not listed in {printed}", volume.id))
}

async fn volumes(ground: &Ground) -> Result<()> {
    for capability in [mounted("ext4"), block()] {
        let volume = ground.volume("shown", 8, capability).await?;
        let is = |state: &str| -> Result<Value> {
            let row = row(ground, &volume)?;
            ensure!(row["state"] == state, "it should be {state}: {row}");
            Ok(row)
        };
        let new = is("new")?;
        ensure!(new["bytes"] == volume.bytes && new["class"] == "main" && new["content"].is_null(), "{new}");
        volume.stage().await?;
        let expected = if volume.is_block() { "block" } else { "ext4" };
        let staged = row(ground, &volume)?;
        ensure!(staged["content"] == expected, "{staged}");
        let target = volume.publish("user").await?;
        let published = is("published")?;
        ensure!(published["publishedAt"][0] == target.to_string_lossy().as_ref(), "{published}");
        volume.unpublish(&target).await?;
        volume.unstage().await?;
        is("ready")?;
        volume.remove().await?;
    }
    Ok(())
}

async fn deleting(ground: &Ground) -> Result<()> {
    let volume = ground.volume("shown", 8, block()).await?;
    let stand_in = StandIn::lvm(
        "case \"$*\" in *\"--activate y\"*) while [ -e /run/check-bin/hang ]; do sleep 0.05; done;; esac",
    )?;
    stand_in.hang_again()?;
    volume.delete().await?;
    let shown = row(ground, &volume)?;
    ensure!(shown["state"] == "deleting" && shown["wipe"] == "zero", "{shown}");
    drop(stand_in);
    volume.gone().await
}

async fn doctor(ground: &Ground) -> Result<()> {
    let output = Command::new(ground.program())
        .args(["doctor", "--node-name", NODE_NAME, "--volume-group", "main", "--output", "json"])
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer: Value = serde_json::from_str(&printed).with_context(|| printed.clone())?;
    ensure!(output.status.success() && answer["ok"] == true, "{printed}");
    ensure!(answer["findings"].as_array().is_some_and(|findings| findings.len() > 4), "{printed}");
    Ok(())
}
