//! Snapshots and copies, and what is written to a volume and read from its copies.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use quarry::csi::v1;
use quarry::lvm::names::{group_snapshot_name, member_name, snapshot_name};
use tonic::{Code, Status};

use super::{Caller, Subject, bytes_of, done, id, locked};
use crate::client;
use crate::inside::kind::{Kind, unsigned};
use crate::inside::races::history::Event;
use crate::inside::races::model::family::{Of, SOURCES, Source};
use crate::inside::races::model::{Answer, Call};

/// The group snapshot, which is of all thin volumes.
const GROUP: &str = "race-group";
/// What the numbers stand in, in a file system.
const FILE: &str = "number";
const BLOCK: usize = 4096;

impl Subject {
    fn snapshot(&self, index: usize) -> String {
        format!("{}-s{index}", self.name)
    }

    fn copy(&self, index: usize) -> String {
        format!("{}-c{index}", self.name)
    }

    fn copy_kind(&self, index: usize) -> Kind {
        self.kind.copies()[usize::from(SOURCES[index].other_layout)]
    }

    fn source(&self, Source { of, .. }: Source) -> v1::VolumeContentSource {
        match of {
            Of::Snapshot(index) => client::source(&id(&snapshot_name(&self.snapshot(index))), true),
            Of::Group => client::source(&id(&member_name(GROUP, &self.name)), true),
            Of::Volume => client::source(&self.volume_id(), false),
        }
    }
}

impl Caller {
    pub(super) async fn send_of_family(&self, subject: &Subject, call: Call) -> Result<Answer, Status> {
        let mut controller = self.client.controller.clone();
        match call {
            Call::Snapshot(index) => {
                let (name, source_volume_id) = (subject.snapshot(index), subject.volume_id());
                let request = v1::CreateSnapshotRequest { name, source_volume_id, ..Default::default() };
                let snapshot = controller.create_snapshot(request).await?.into_inner().snapshot.unwrap_or_default();
                if !snapshot.ready_to_use {
                    return Err(Status::new(Code::DataLoss, "the snapshot is not ready"));
                }
                Ok(Answer::Bytes(unsigned(snapshot.size_bytes)))
            }
            Call::DeleteSnapshot(index) => {
                let snapshot_id = id(&snapshot_name(&subject.snapshot(index)));
                done(controller.delete_snapshot(v1::DeleteSnapshotRequest { snapshot_id, ..Default::default() })).await
            }
            Call::Copy(index) => {
                let mut request = subject.copy_kind(index).create(&subject.copy(index), 0, 0);
                request.volume_content_source = Some(subject.source(SOURCES[index]));
                Ok(bytes_of(controller.create_volume(request).await?.into_inner().volume))
            }
            Call::DeleteCopy(index) => {
                let volume_id = id(&subject.copy(index));
                done(controller.delete_volume(v1::DeleteVolumeRequest { volume_id, ..Default::default() })).await
            }
            Call::Read(index) => self.read(subject, index).await,
            _ => Err(Status::new(Code::Unimplemented, "is a call about the volume itself")),
        }
    }

    /// The number in a copy, which is staged and published for that and taken away again.
    async fn read(&self, subject: &Subject, index: usize) -> Result<Answer, Status> {
        let mut node = self.client.node.clone();
        let (volume_id, kind) = (id(&subject.copy(index)), subject.copy_kind(index));
        let staging = subject.staging.with_file_name(subject.copy(index));
        let target = subject.targets[0].with_file_name(subject.copy(index));
        node.node_stage_volume(client::stage(&volume_id, &staging, kind.capability())).await?;
        let published =
            node.node_publish_volume(client::publish(&volume_id, &staging, &target, kind.capability())).await;
        let path = where_in(&target, kind);
        let number = published.as_ref().ok().map(|_| number_in(&path));
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let request = v1::NodeUnpublishVolumeRequest { volume_id: volume_id.clone(), target_path: text(&target) };
        let unpublished = node.node_unpublish_volume(request).await;
        let request = v1::NodeUnstageVolumeRequest { volume_id, staging_target_path: text(&staging) };
        let unstaged = node.node_unstage_volume(request).await;
        published?;
        unpublished?;
        unstaged?;
        match number {
            Some(Ok(number)) => Ok(Answer::Number(number)),
            other => Err(Status::new(Code::DataLoss, format!("the copy cannot be read: {other:?}"))),
        }
    }

    /// A snapshot of all thin volumes, which is one call about each.
    pub async fn group(&self) {
        let begin = self.tick();
        let members = self.subjects.iter().filter(|subject| subject.kind.is_thin());
        let source_volume_ids = members.clone().map(Subject::volume_id).collect();
        let name = GROUP.to_owned();
        let request = v1::CreateVolumeGroupSnapshotRequest { name, source_volume_ids, ..Default::default() };
        let make = || async { self.client.groups.clone().create_volume_group_snapshot(request.clone()).await };
        let answer = self.limited("the group", make).await;
        let snapshots = answer.map(|answer| answer.into_inner().group_snapshot.unwrap_or_default().snapshots);
        if let Err(status) = &snapshots
            && !matches!(status.code(), Code::Aborted | Code::NotFound)
        {
            locked(&self.problems).push(format!("a group snapshot: {status}"));
        }
        let end = self.tick();
        for subject in members {
            let of_it = |snapshot: &&v1::Snapshot| snapshot.source_volume_id == subject.volume_id();
            let answer = match &snapshots {
                Ok(snapshots) => {
                    Answer::Bytes(snapshots.iter().find(of_it).map_or(0, |snapshot| unsigned(snapshot.size_bytes)))
                }
                Err(status) => Answer::Refused(status.code()),
            };
            locked(&subject.events).push(Event { begin, end, call: Call::Group, answer });
        }
    }

    /// The group snapshot's deletion, which is one call about each thin volume.
    pub async fn delete_group(&self) -> Answer {
        let begin = self.tick();
        let group_snapshot_id = id(&group_snapshot_name(GROUP));
        let request = v1::DeleteVolumeGroupSnapshotRequest { group_snapshot_id, ..Default::default() };
        let delete = || async { self.client.groups.clone().delete_volume_group_snapshot(request.clone()).await };
        let answer = match self.limited("the group", delete).await {
            Ok(_) => Answer::Done,
            Err(status) => {
                if status.code() != Code::Aborted {
                    locked(&self.problems).push(format!("deleting a group snapshot: {status}"));
                }
                Answer::Refused(status.code())
            }
        };
        let end = self.tick();
        for subject in self.subjects.iter().filter(|subject| subject.kind.is_thin()) {
            locked(&subject.events).push(Event { begin, end, call: Call::DeleteGroup, answer });
        }
        answer
    }
}

/// Writes a number where a volume is published, if it is, and can be written.
pub(super) async fn write(target: &Path, kind: Kind, number: u64) -> Result<Answer, Status> {
    let target = target.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        if !is_shown(&target, kind) {
            return Err(ErrorKind::NotFound.into());
        }
        let path = where_in(&target, kind);
        let file = OpenOptions::new().write(true).create(!kind.is_block()).truncate(false).open(path)?;
        file.write_all_at(&number.to_le_bytes().repeat(BLOCK / 8), 0)?;
        file.sync_all()
    });
    match written.await {
        Ok(Ok(())) => Ok(Answer::Done),
        Ok(Err(error))
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
            ) =>
        {
            Err(Status::new(Code::FailedPrecondition, error.to_string()))
        }
        other => Err(Status::new(Code::DataLoss, format!("could not write: {other:?}"))),
    }
}

/// Whether a volume is there: its device, or another file system than the folder's.
fn is_shown(target: &Path, kind: Kind) -> bool {
    let Ok(metadata) = fs::metadata(target) else { return false };
    if kind.is_block() {
        return metadata.file_type().is_block_device();
    }
    let around = target.parent().and_then(|parent| fs::metadata(parent).ok());
    around.is_some_and(|around| around.dev() != metadata.dev())
}

fn where_in(target: &Path, kind: Kind) -> PathBuf {
    if kind.is_block() { target.to_owned() } else { target.join(FILE) }
}

/// The number that was written last; 0 where none was.
fn number_in(path: &Path) -> std::io::Result<u64> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut block = vec![0; BLOCK];
    let length = file.read_at(&mut block, 0)?;
    if length == 0 {
        // It was made, and nothing written to it yet.
        return Ok(0);
    }
    let number = block.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if block == number.to_le_bytes().repeat(BLOCK / 8) {
        Ok(number)
    } else {
        Err(std::io::Error::new(ErrorKind::InvalidData, format!("no number: {:?}", &block[..64])))
    }
}
