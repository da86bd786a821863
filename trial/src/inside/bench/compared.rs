//! The phases that time calls, most of them against the bare commands that do the same by hand.

use std::time::Instant;

use anyhow::Result;
use tokio::task::JoinSet;

use super::Bench;
use super::calls::{VOLUME_SIZE, staging_folder};
use super::machine::{bare, settle, untimed};
use super::turns::{WARM_UP, in_turn};
use crate::bench::GROUP;
use crate::bench::samples::Samples;

impl Bench {
    pub(super) async fn create(&mut self) -> Result<()> {
        let calls = self.calls.clone();
        let ours = async |round| {
            let start = Instant::now();
            calls.create(&our_name(round)).await?;
            Ok(start.elapsed())
        };
        let theirs = async |round| bare(&["lvcreate", "-n", &bare_name(round), "-L", VOLUME_SIZE, GROUP]);
        let (ours, theirs) = in_turn(self.repetitions.volumes, ours, theirs).await?;
        self.figures.ratio("create_volume_p50_ratio", &ours, &theirs);
        Ok(())
    }

    /// Of what [`Bench::create`] left; made here where that did not run.
    pub(super) async fn delete(&mut self) -> Result<()> {
        let (calls, mut ids, mut gone) = (self.calls.clone(), Vec::new(), Samples::default());
        for round in 0..self.repetitions.volumes + WARM_UP {
            ids.push(calls.create(&our_name(round)).await?);
            if !std::fs::exists(format!("/dev/{GROUP}/{}", bare_name(round)))? {
                bare(&["lvcreate", "-n", &bare_name(round), "-L", VOLUME_SIZE, GROUP])?;
            }
        }
        let ours = async |round: usize| {
            let start = Instant::now();
            calls.delete(&ids[round]).await?;
            let answered = start.elapsed();
            settle().await?;
            if round >= WARM_UP {
                gone.push(start.elapsed());
            }
            Ok(answered)
        };
        let theirs = async |round| bare(&["lvremove", "-f", &format!("{GROUP}/{}", bare_name(round))]);
        let (ours, theirs) = in_turn(self.repetitions.volumes, ours, theirs).await?;
        self.figures.ratio("delete_volume_p50_ratio", &ours, &theirs);
        self.figures.ratio("delete_until_gone_p50_ratio", &gone, &theirs);
        Ok(())
    }

    pub(super) async fn publish(&mut self) -> Result<()> {
        let (mut publish, mut unpublish) = (Samples::default(), Samples::default());
        let id = self.calls.create("pvc-published").await?;
        let staging = staging_folder("published")?;
        self.calls.stage(&id, &staging).await?;
        settle().await?;
        for round in 0..self.repetitions.publications + WARM_UP {
            let target = staging_folder("targets")?.join(round.to_string());
            let start = Instant::now();
            self.calls.publish(&id, &staging, &target).await?;
            let published = start.elapsed();
            let start = Instant::now();
            self.calls.unpublish(&id, &target).await?;
            if round >= WARM_UP {
                publish.push(published);
                unpublish.push(start.elapsed());
            }
        }
        self.calls.unstage(&id, &staging).await?;
        self.calls.delete(&id).await?;
        self.figures.time("publish_p50_ms", &publish);
        self.figures.time("unpublish_p50_ms", &unpublish);
        Ok(())
    }

    pub(super) async fn stage(&mut self) -> Result<()> {
        let calls = self.calls.clone();
        let ours = async |round| {
            let id = calls.create(&our_name(round)).await?;
            let staging = staging_folder(&our_name(round))?;
            settle().await?;
            let start = Instant::now();
            calls.stage(&id, &staging).await?;
            let took = start.elapsed();
            calls.unstage(&id, &staging).await?;
            calls.delete(&id).await?;
            Ok(took)
        };
        let theirs = async |round| bare_stage(&bare_name(round)).await;
        let (ours, theirs) = in_turn(self.repetitions.stagings, ours, theirs).await?;
        self.figures.ratio("stage_fresh_ratio", &ours, &theirs);
        Ok(())
    }

    pub(super) async fn burst(&mut self) -> Result<()> {
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        for round in 0..self.repetitions.bursts {
            for turn in 0..2 {
                settle().await?;
                if (round + turn) % 2 == 0 {
                    let start = Instant::now();
                    let ids = self.create_at_once(&format!("pvc-burst-{round}-"), self.repetitions.burst).await?;
                    ours.push(start.elapsed());
                    self.delete_at_once(ids).await?;
                } else {
                    let names: Vec<String> =
                        (0..self.repetitions.burst).map(|index| format!("burst-{index}")).collect();
                    let start = Instant::now();
                    for name in &names {
                        bare(&["lvcreate", "-n", name, "-L", VOLUME_SIZE, GROUP])?;
                    }
                    theirs.push(start.elapsed());
                    let names = names.iter().map(|name| format!("{GROUP}/{name}"));
                    let command: Vec<String> = ["lvremove", "-f"].map(String::from).into_iter().chain(names).collect();
                    untimed(&command.iter().map(String::as_str).collect::<Vec<_>>())?;
                }
            }
        }
        self.figures.ratio("burst_100_create_ratio", &ours, &theirs);
        Ok(())
    }

    /// The ids of so many volumes, all asked for at the same moment.
    pub(super) async fn create_at_once(&self, prefix: &str, count: usize) -> Result<Vec<String>> {
        let mut creating = JoinSet::new();
        for index in 0..count {
            let (calls, name) = (self.calls.clone(), format!("{prefix}{index}"));
            creating.spawn(async move { calls.create(&name).await });
        }
        creating.join_all().await.into_iter().collect()
    }

    pub(super) async fn delete_at_once(&self, ids: Vec<String>) -> Result<()> {
        let mut deleting = JoinSet::new();
        for id in ids {
            let calls = self.calls.clone();
            deleting.spawn(async move { calls.delete(&id).await });
        }
        deleting.join_all().await.into_iter().collect()
    }
}

/// Activation, mkfs and mount by hand, of a volume that was made before.
async fn bare_stage(name: &str) -> Result<std::time::Duration> {
    untimed(&["lvcreate", "-an", "-Zn", "-Wn", "-n", name, "-L", VOLUME_SIZE, GROUP])?;
    let (device, volume) = (format!("/dev/{GROUP}/{name}"), format!("{GROUP}/{name}"));
    let folder = staging_folder(name)?;
    let folder = folder.to_string_lossy();
    settle().await?;
    let activated = bare(&["lvchange", "-ay", &volume])?;
    let made = bare(&["mkfs.ext4", &device])?;
    let mounted = bare(&["mount", &device, &folder])?;
    untimed(&["umount", &folder])?;
    settle().await?;
    untimed(&["lvremove", "-f", &volume])?;
    Ok(activated + made + mounted)
}

/// As Kubernetes' provisioner names volumes.
pub(super) fn our_name(round: usize) -> String {
    format!("pvc-8f4e3f1c-5d6a-4d0b-9a67-{round:012}")
}

pub(super) fn bare_name(round: usize) -> String {
    format!("bare-8f4e3f1c-5d6a-4d0b-9a67-{round:012}")
}
