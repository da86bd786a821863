//! An lvm that hangs for one group: the node stays up, everything else goes on, and nothing is killed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tokio::task::JoinHandle;
use tonic::Code::{Aborted, DeadlineExceeded};
use tonic::{Request, Response, Status};

use crate::client::{block, mounted};
use crate::inside::check::{Ground, MIB, StandIn, answered, eventually, metrics, refused, within};

use super::capacity_of;

cases! {
    "Probe answers below a second while lvm hangs" => probe,
    "looks and publishes of volumes in the hung group go on" => same_group_goes_on,
    "volumes of other groups live their whole life meanwhile" => other_groups_go_on,
    "deleted volumes of other groups are wiped and removed meanwhile" => other_wipes_go_on,
    "a second call on the hung volume is told to come back, and the first ends when lvm does" => second_call,
    "a call whose caller gave up goes on, and the next caller finds its result" => caller_gave_up,
    "a node that starts while lvm hangs serves at once" => start_while_hung,
    "SIGTERM while lvm hangs ends after the grace period and leaves lvm running" => terminate_while_hung,
}

type Call = JoinHandle<Result<Response<v1::CreateVolumeResponse>, Status>>;

/// Begins to make a volume in the hung group.
async fn hung_create(ground: &Ground) -> Result<(v1::CreateVolumeRequest, Call)> {
    let request = ground.request("own", &ground.name("hung"), 4 * MIB, block());
    let mut controller = ground.client().controller;
    let sent = request.clone();
    let call = tokio::spawn(async move { controller.create_volume(sent).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(!call.is_finished(), "lvm does not hang");
    Ok((request, call))
}

/// Lets lvm go on; the volume must then be made, and is removed.
async fn let_go(ground: &Ground, stand_in: StandIn, request: v1::CreateVolumeRequest, call: Call) -> Result<()> {
    stand_in.release();
    let made = answered(within(Duration::from_secs(30), "the call that hung", call).await??)?;
    drop(stand_in);
    let volume = ground.volume_from(request, "own").await?;
    ensure!(made.volume.is_some_and(|made| made.volume_id == volume.id));
    volume.remove().await
}

async fn probe(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let stand_in = StandIn::hanging_lvm("own")?;
    let (request, call) = hung_create(ground).await?;
    for _ in 0..10 {
        let begun = Instant::now();
        let answer = answered(ground.client().identity.probe(v1::ProbeRequest {}).await)?;
        ensure!(answer.ready == Some(true));
        ensure!(begun.elapsed() < Duration::from_secs(1), "Probe took {:?}", begun.elapsed());
        let begun = Instant::now();
        ensure!(metrics("/healthz")?.1 == "ok");
        ensure!(metrics("/metrics")?.1.contains("quarry_volume_group_free_bytes"), "the metrics lack the groups");
        ensure!(begun.elapsed() < Duration::from_secs(2), "metrics took {:?}", begun.elapsed());
    }
    let_go(ground, stand_in, request, call).await?;
    group.remove()
}

async fn same_group_goes_on(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 64)?;
    let volume = ground.volume_in("own", "own", "goes-on", 16, mounted("ext4")).await?;
    volume.stage().await?;
    let stand_in = StandIn::hanging_lvm("own")?;
    let (request, call) = hung_create(ground).await?;
    let life = async {
        let target = volume.publish("user").await?;
        std::fs::write(target.join("f"), "data")?;
        volume.stage().await?;
        let stats = v1::NodeGetVolumeStatsRequest {
            volume_id: volume.id.clone(),
            volume_path: target.to_string_lossy().into_owned(),
            ..v1::NodeGetVolumeStatsRequest::default()
        };
        answered(ground.client().node.node_get_volume_stats(stats).await)?;
        capacity_of(ground, "own").await?;
        answered(ground.client().controller.list_volumes(v1::ListVolumesRequest::default()).await)?;
        let health = v1::ControllerListVolumeHealthRequest::default();
        answered(ground.client().controller.controller_list_volume_health(health).await)?;
        volume.unpublish(&target).await
    };
    within(Duration::from_secs(10), "what needs no lvm", life).await??;
    let_go(ground, stand_in, request, call).await?;
    volume.remove().await?;
    group.remove()
}

async fn other_groups_go_on(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let stand_in = StandIn::hanging_lvm("own")?;
    let (request, call) = hung_create(ground).await?;
    let life = async {
        let volume = ground.volume("goes-on", 16, mounted("ext4")).await?;
        volume.stage().await?;
        let target = volume.publish("user").await?;
        volume.grow(32 * MIB).await?;
        volume.grow_at(&target).await?;
        volume.remove().await
    };
    within(Duration::from_secs(30), "the life of a volume in another group", life).await??;
    let_go(ground, stand_in, request, call).await?;
    group.remove()
}

async fn other_wipes_go_on(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 64)?;
    let mut hung = Vec::new();
    for _ in 0..3 {
        hung.push(ground.volume_in("own", "own", "hung", 4, block()).await?);
    }
    // The marks are set; what follows in the background hangs, be it the activation, the removal or the backup.
    let stand_in = StandIn::hanging_lvm("own")?;
    stand_in.release();
    for volume in &hung {
        volume.delete().await?;
    }
    stand_in.hang_again()?;
    let others = async {
        for _ in 0..3 {
            let volume = ground.volume("goes-on", 4, block()).await?;
            volume.delete().await?;
            volume.gone().await?;
        }
        anyhow::Ok(())
    };
    within(Duration::from_secs(30), "wipes in another group", others).await??;
    drop(stand_in);
    for volume in &hung {
        volume.gone().await?;
    }
    group.remove()
}

async fn second_call(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let stand_in = StandIn::hanging_lvm("own")?;
    let (request, call) = hung_create(ground).await?;
    for _ in 0..3 {
        let begun = Instant::now();
        let answer = ground.client().controller.create_volume(request.clone()).await;
        refused(answer, Aborted, &["creating is still running"])?;
        ensure!(begun.elapsed() < Duration::from_secs(1), "the refusal took {:?}", begun.elapsed());
    }
    let delete = v1::DeleteVolumeRequest {
        volume_id: format!("lab-node/{}", request.name),
        ..v1::DeleteVolumeRequest::default()
    };
    refused(ground.client().controller.delete_volume(delete).await, Aborted, &["creating is still running"])?;
    let_go(ground, stand_in, request, call).await?;
    group.remove()
}

async fn caller_gave_up(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let stand_in = StandIn::hanging_lvm("own")?;
    let wish = ground.request("own", &ground.name("given-up"), 4 * MIB, block());
    let mut request = Request::new(wish.clone());
    request.set_timeout(Duration::from_millis(500));
    let status = ground.client().controller.create_volume(request).await.err().context("lvm does not hang")?;
    ensure!([DeadlineExceeded, tonic::Code::Cancelled].contains(&status.code()), "{status:?}");
    let answer = ground.client().controller.create_volume(wish.clone()).await;
    refused(answer, Aborted, &["creating is still running"])?;
    drop(stand_in);
    eventually("the volume is made", || async {
        Ok(ground.client().controller.create_volume(wish.clone()).await.is_ok())
    })
    .await?;
    ground.volume_from(wish, "own").await?.remove().await?;
    group.remove()
}

async fn start_while_hung(ground: &Ground) -> Result<()> {
    let volume = ground.volume("start", 8, mounted("ext4")).await?;
    volume.stage().await?;
    let stand_in = StandIn::lvm("[ -e /run/check-bin/hang ] && sleep 15")?;
    stand_in.hang_again()?;
    let begun = Instant::now();
    ground.crash().await?;
    answered(ground.client().identity.probe(v1::ProbeRequest {}).await)?;
    volume.publish("user").await?;
    ensure!(begun.elapsed() < Duration::from_secs(13), "it took {:?}", begun.elapsed());
    drop(stand_in);
    volume.remove().await
}

async fn terminate_while_hung(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 32)?;
    let stand_in = StandIn::hanging_lvm("own")?;
    let (request, call) = hung_create(ground).await?;
    let begun = Instant::now();
    ground.terminate()?;
    ground.ended().await?;
    let took = begun.elapsed();
    ensure!(took > Duration::from_secs(2) && took < Duration::from_secs(10), "the end took {took:?}");
    ensure!(call.await?.is_err(), "it was answered as done");
    stand_in.release();
    // lvm outlived the node and does what it was told.
    eventually("lvm has made the volume", || async {
        Ok(crate::inside::check::lvm(&["lvs", "--noheadings", "-o", "lv_name", "own"])?.contains(&request.name))
    })
    .await?;
    drop(stand_in);
    ground.start().await?;
    ground.volume_from(request, "own").await?.remove().await?;
    group.remove()
}
