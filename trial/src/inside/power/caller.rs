//! Calls the node, and writes to the journal before and after.

use std::error::Error;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use quarry::csi::v1;
use quarry::lvm::names::{group_snapshot_name, snapshot_name};
use tonic::{Code, Response, Status};

use crate::client::{self, Client, PAUSE, is_slow_disk, patiently};
use crate::inside::kind::{Kind, range, unsigned};
use crate::inside::power::journal::Journal;
use crate::inside::power::ledger::{Answer, Call, Entry, Volume, member};
use crate::inside::power::records::{self, Record};

/// How long any call may take: a restore waits for others before it begins.
const CALL_LIMIT: Duration = Duration::from_mins(6);
/// How long a call may be told to come back later. A check restores all snapshots at once, and the copies wait for each other: some
/// 75 seconds where three other machines work beside it.
const BUSY_LIMIT: Duration = Duration::from_mins(10);

/// A client that keeps a journal.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    pub journal: Arc<Journal>,
    kubelet: PathBuf,
}

impl Caller {
    pub fn new(client: Client, journal: Arc<Journal>, kubelet: PathBuf) -> Self {
        Self { client, journal, kubelet }
    }

    pub fn staging(&self, volume: &str) -> PathBuf {
        self.kubelet.join("staging").join(volume)
    }

    pub fn target(&self, volume: &str) -> PathBuf {
        self.kubelet.join("target").join(volume)
    }

    /// The node's list: id and bytes.
    pub async fn list(&self) -> Result<Vec<(String, u64)>> {
        let mut listed = Vec::new();
        let mut starting_token = String::new();
        loop {
            let request = v1::ListVolumesRequest { max_entries: 5, starting_token };
            let list = || async { self.client.controller.clone().list_volumes(request.clone()).await };
            let page = patiently(BUSY_LIMIT, is_slow_disk, list).await.context("ListVolumes")?.into_inner();
            let volumes = page.entries.into_iter().filter_map(|entry| entry.volume);
            listed.extend(volumes.map(|volume| (volume.volume_id, unsigned(volume.capacity_bytes))));
            if page.next_token.is_empty() {
                return Ok(listed);
            }
            starting_token = page.next_token;
        }
    }

    /// The node's snapshots: id and bytes.
    pub async fn list_snapshots(&self) -> Result<Vec<(String, u64)>> {
        let list =
            || async { self.client.controller.clone().list_snapshots(v1::ListSnapshotsRequest::default()).await };
        let listed = patiently(BUSY_LIMIT, is_slow_disk, list).await.context("ListSnapshots")?.into_inner();
        let snapshots = listed.entries.into_iter().filter_map(|entry| entry.snapshot);
        Ok(snapshots.map(|snapshot| (snapshot.snapshot_id, unsigned(snapshot.size_bytes))).collect())
    }

    /// The ids of the snapshots in a group snapshot.
    pub async fn group(&self, id: &str) -> Result<Vec<String>> {
        let request = v1::GetVolumeGroupSnapshotRequest { group_snapshot_id: id.to_owned(), ..Default::default() };
        let get = || async { self.client.groups.clone().get_volume_group_snapshot(request.clone()).await };
        let found = patiently(BUSY_LIMIT, is_slow_disk, get).await.context("GetVolumeGroupSnapshot")?.into_inner();
        let group = found.group_snapshot.unwrap_or_default();
        Ok(group.snapshots.into_iter().map(|snapshot| snapshot.snapshot_id).collect())
    }

    /// One call of the node, between two lines of the journal.
    pub async fn call(&self, name: &str, call: &Call) -> Result<Answer> {
        self.journal.write(&Entry::Intent { volume: name.to_owned(), call: call.clone() })?;
        let answer = match tokio::time::timeout(CALL_LIMIT, self.send(name, call)).await {
            Ok(Ok(answer)) => answer,
            // Not the node's word: it ended before it gave one.
            Ok(Err(status)) if status.source().is_some() || status.message().starts_with("Service was not ready") => {
                Answer::Refused { code: String::from("Unavailable"), message: status.message().to_owned() }
            }
            Ok(Err(status)) => {
                Answer::Refused { code: format!("{:?}", status.code()), message: status.message().to_owned() }
            }
            Err(_) => Answer::Refused { code: String::from("none"), message: format!("no answer in {CALL_LIMIT:?}") },
        };
        self.journal.write(&Entry::Outcome { volume: name.to_owned(), answer: answer.clone() })?;
        Ok(answer)
    }

    /// As [`Caller::call`], again while the node asks for patience; fails when refused.
    pub async fn insist(&self, name: &str, call: &Call) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.call(name, call).await? {
                Answer::Refused { code, .. } if asks_for_patience(&code) && begun.elapsed() < BUSY_LIMIT => {
                    tokio::time::sleep(PAUSE).await;
                }
                Answer::Refused { code, message } => bail!("{name}: {call:?} was refused with {code}: {message}"),
                _ => return Ok(()),
            }
        }
    }

    async fn send(&self, name: &str, call: &Call) -> Result<Answer, Status> {
        let volume = self.journal.volume(name);
        let volume_id = volume.id.clone().unwrap_or_else(|| node_id(name));
        let kind = volume.kind.unwrap_or(Kind::Block);
        let (staging, target) = (self.staging(name), self.target(name));
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let made =
            |path: &PathBuf| fs::create_dir_all(path).map_err(|error| Status::new(Code::Unknown, error.to_string()));
        let (mut controller, mut node) = (self.client.controller.clone(), self.client.node.clone());
        match call {
            Call::Create { kind, bytes } => {
                let answer = controller.create_volume(kind.create(name, *bytes, 0)).await?.into_inner();
                let volume = answer.volume.unwrap_or_default();
                Ok(Answer::Volume { id: volume.volume_id, bytes: unsigned(volume.capacity_bytes) })
            }
            Call::Copy { from, kind, bytes } => {
                let source = self.journal.volume(from);
                let mut request = kind.create(name, *bytes, 0);
                request.volume_content_source =
                    Some(client::source(&source.id.unwrap_or_default(), source.snapshot_of.is_some()));
                let answer = controller.create_volume(request).await?.into_inner();
                let volume = answer.volume.unwrap_or_default();
                Ok(Answer::Volume { id: volume.volume_id, bytes: unsigned(volume.capacity_bytes) })
            }
            Call::Snapshot { of } => {
                let source_volume_id = self.journal.volume(of).id.unwrap_or_default();
                let request =
                    v1::CreateSnapshotRequest { name: name.to_owned(), source_volume_id, ..Default::default() };
                let snapshot = controller.create_snapshot(request).await?.into_inner().snapshot.unwrap_or_default();
                if !snapshot.ready_to_use {
                    return Err(Status::new(Code::DataLoss, "the snapshot is lost"));
                }
                Ok(Answer::Volume { id: snapshot.snapshot_id, bytes: unsigned(snapshot.size_bytes) })
            }
            Call::SnapshotGroup { of } => self.send_group(name, of).await,
            Call::Delete if !volume.members.is_empty() => {
                let group_snapshot_id = volume.id.unwrap_or_else(|| node_id(&group_snapshot_name(name)));
                // Those that are gone already are no difference.
                let snapshot_ids =
                    volume.members.iter().filter_map(|of| self.journal.volume(&member(name, of)).id).collect();
                let request =
                    v1::DeleteVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, ..Default::default() };
                done(self.client.groups.clone().delete_volume_group_snapshot(request)).await
            }
            Call::Delete if volume.snapshot_of.is_some() => {
                let snapshot_id = volume.id.unwrap_or_else(|| node_id(&snapshot_name(name)));
                let request = v1::DeleteSnapshotRequest { snapshot_id, ..Default::default() };
                done(controller.delete_snapshot(request)).await
            }
            Call::Delete => {
                let request = v1::DeleteVolumeRequest { volume_id, ..Default::default() };
                done(controller.delete_volume(request)).await
            }
            Call::Stage => {
                made(&staging)?;
                done(node.node_stage_volume(client::stage(&volume_id, &staging, kind.capability()))).await
            }
            Call::Unstage => {
                let staging_target_path = text(&staging);
                done(node.node_unstage_volume(v1::NodeUnstageVolumeRequest { volume_id, staging_target_path })).await
            }
            Call::Publish => {
                made(&self.kubelet.join("target"))?;
                let request = client::publish(&volume_id, &staging, &target, kind.capability());
                done(node.node_publish_volume(request)).await
            }
            Call::Unpublish => {
                let target_path = text(&target);
                done(node.node_unpublish_volume(v1::NodeUnpublishVolumeRequest { volume_id, target_path })).await
            }
            Call::Grow { bytes } => {
                let request = v1::ControllerExpandVolumeRequest {
                    volume_id,
                    capacity_range: range(*bytes, 0),
                    volume_capability: Some(kind.capability()),
                    ..Default::default()
                };
                let answer = controller.controller_expand_volume(request).await?.into_inner();
                Ok(Answer::Bytes(unsigned(answer.capacity_bytes)))
            }
            Call::GrowOnNode => {
                let request = v1::NodeExpandVolumeRequest {
                    volume_id,
                    volume_path: text(&target),
                    staging_target_path: text(&staging),
                    ..Default::default()
                };
                let answer = node.node_expand_volume(request).await?.into_inner();
                Ok(Answer::Bytes(unsigned(answer.capacity_bytes)))
            }
        }
    }

    async fn send_group(&self, name: &str, of: &[String]) -> Result<Answer, Status> {
        let source_volume_ids = of.iter().map(|of| node_id(of)).collect();
        let request =
            v1::CreateVolumeGroupSnapshotRequest { name: name.to_owned(), source_volume_ids, ..Default::default() };
        let answer = self.client.groups.clone().create_volume_group_snapshot(request).await?.into_inner();
        let group = answer.group_snapshot.unwrap_or_default();
        if !group.ready_to_use || !group.snapshots.iter().all(|snapshot| snapshot.ready_to_use) {
            return Err(Status::new(Code::DataLoss, "the group snapshot is not ready"));
        }
        let members = group.snapshots.into_iter().map(|snapshot| {
            let of = snapshot.source_volume_id.rsplit('/').next().unwrap_or_default().to_owned();
            (of, (snapshot.snapshot_id, unsigned(snapshot.size_bytes)))
        });
        Ok(Answer::Group { id: group.group_snapshot_id, members: members.collect() })
    }

    /// Writes some records to a published volume, at places that hold none; one flush, then their lines.
    pub fn write(&self, name: &str, volume: &Volume, count: usize, random: &mut fastrand::Rng) -> Result<()> {
        let Some(kind) = volume.kind else { return Ok(()) };
        let mut records: Vec<Record> = Vec::new();
        for _ in 0..count {
            let slot = records::slot(kind, volume.bytes, random);
            if volume.records.iter().chain(&records).all(|record| record.slot != slot) {
                let number = (volume.records.len() + records.len()) as u64;
                records.push(Record { number, slot, seed: random.u64(..) });
            }
        }
        tokio::task::block_in_place(|| records::write(kind, &self.target(name), &records))?;
        for record in records {
            self.journal.write(&Entry::Record { volume: name.to_owned(), record })?;
        }
        Ok(())
    }
}

/// The id of what the node calls so.
pub fn node_id(logical_name: &str) -> String {
    format!("{}/{logical_name}", crate::site::NODE_NAME)
}

/// The predecessor of the volume is being removed, or the disk is too busy to answer.
pub fn asks_for_patience(code: &str) -> bool {
    matches!(code, "Aborted" | "Unavailable")
}

async fn done<T>(answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<Answer, Status> {
    answer.await.map(|_| Answer::Done)
}
