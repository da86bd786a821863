//! Metrics, health over HTTP, and the log.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::InvalidArgument;

use crate::client::{block, create, mounted};
use crate::inside::check::{Ground, MIB, answered, metrics, refused};

const SECRET: &str = "canary-of-a-secret";

cases! {
    "metrics answer with every expected name, and the figures are those of the group" => names,
    "calls are counted by method and code" => calls_are_counted,
    "deleted volumes are counted as pending until they are gone" => wipes_pending,
    "health answers ok, and other paths do not exist" => health,
    "secrets appear in neither log nor metrics nor messages" => secrets,
}

fn value(text: &str, series: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("there is no {series} in\n{text}"))?.parse()?)
}

async fn names(ground: &Ground) -> Result<()> {
    let volume = ground.volume("metrics", 8, block()).await?;
    let (status, text) = metrics("/metrics")?;
    ensure!(status.contains("200"), "{status}");
    for name in [
        "quarry_csi_calls_total{method=\"CreateVolume\",code=\"OK\"}",
        "quarry_csi_call_seconds_bucket{",
        "quarry_csi_call_seconds_sum{",
        "quarry_lvm_command_seconds_bucket{",
        "quarry_lvm_command_seconds_count{command=\"lvcreate\"}",
        "quarry_lvm_command_failures_total{command=\"lvcreate\"}",
        "quarry_commands_total{program=\"lvm\"}",
        "quarry_volume_group_metadata_free_bytes{volume_group=\"main\"}",
        "quarry_wipes_pending ",
        "quarry_stuck_commands ",
    ] {
        ensure!(text.lines().any(|line| line.starts_with(name)), "there is no {name} in\n{text}");
    }
    let free = value(&text, "quarry_volume_group_free_bytes{volume_group=\"main\"}")?;
    let size = value(&text, "quarry_volume_group_size_bytes{volume_group=\"main\"}")?;
    ensure!((size - free - 8.0 * 1_048_576.0).abs() < 1.0, "of {size} bytes {free} are free");
    ensure!((value(&text, "quarry_volumes{class=\"main\"}")? - 1.0).abs() < 0.1);
    ensure!(text.ends_with("# EOF\n"));
    volume.remove().await
}

async fn calls_are_counted(ground: &Ground) -> Result<()> {
    let series = "quarry_csi_calls_total{method=\"CreateVolume\",code=\"INVALID_ARGUMENT\"}";
    let refuse = || async {
        refused(ground.client().controller.create_volume(create("", 1, block())).await, InvalidArgument, &["name"])
    };
    refuse().await?;
    let before = value(&metrics("/metrics")?.1, series)?;
    refuse().await?;
    refuse().await?;
    let after = value(&metrics("/metrics")?.1, series)?;
    ensure!((after - before - 2.0).abs() < 0.1, "{before} became {after}");
    Ok(())
}

async fn wipes_pending(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 64)?;
    let volume = ground.volume_in("own", "own", "pending", 40, block()).await?;
    group.slice()?.slow_down(100)?;
    volume.delete().await?;
    ensure!((value(&metrics("/metrics")?.1, "quarry_wipes_pending")? - 1.0).abs() < 0.1);
    group.slice()?.repair()?;
    volume.gone().await?;
    ensure!(value(&metrics("/metrics")?.1, "quarry_wipes_pending")?.abs() < 0.1);
    group.remove()
}

async fn health(_ground: &Ground) -> Result<()> {
    let (status, body) = metrics("/healthz")?;
    ensure!(status.contains("200") && body == "ok", "{status} {body}");
    ensure!(metrics("/")?.0.contains("404") && metrics("/metrics/../etc/passwd")?.0.contains("404"));
    Ok(())
}

async fn secrets(ground: &Ground) -> Result<()> {
    let secrets = || HashMap::from([(String::from("passphrase"), String::from(SECRET))]);
    let request =
        v1::CreateVolumeRequest { secrets: secrets(), ..create(&ground.name("secret"), 4 * MIB, mounted("ext4")) };
    let volume = ground.volume_from(request, "main").await?;
    let stage = v1::NodeStageVolumeRequest { secrets: secrets(), ..volume.stage_request()? };
    answered(ground.client().node.node_stage_volume(stage).await)?;
    let target = volume.target("user")?;
    let publish = v1::NodePublishVolumeRequest { secrets: secrets(), ..volume.publish_request(&target)? };
    answered(ground.client().node.node_publish_volume(publish).await)?;
    let bad = v1::NodeStageVolumeRequest {
        secrets: secrets(),
        volume_capability: Some(mounted("ntfs")),
        ..volume.stage_request()?
    };
    refused(ground.client().node.node_stage_volume(bad).await, InvalidArgument, &["ntfs"])?;
    ensure!(!ground.log()?.contains(SECRET), "the secret is in the log");
    ensure!(ground.log()?.contains(&volume.id), "the volume is not in the log");
    ensure!(!metrics("/metrics")?.1.contains(SECRET), "the secret is in the metrics");
    ensure!(!volume.tags()?.contains(SECRET), "the secret is in the tags");
    volume.remove().await
}
