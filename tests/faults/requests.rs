//! The requests of Kubernetes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quarry::csi::v1;
use quarry::csi::v1::controller_server::Controller as _;
use quarry::csi::v1::group_controller_server::GroupController as _;
use quarry::csi::v1::node_server::Node as _;
use quarry::csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use quarry::lvm::names::{group_snapshot_name, member_name, snapshot_name};
use quarry::node::controller_service::ControllerService;
use quarry::node::group_controller_service::GroupControllerService;
use quarry::node::node_service::NodeService;
use tokio::time::sleep;
use tonic::{Code, Request, Status};

use crate::call::{Call, From, Use};
use crate::disk_format::EXTENT;
use crate::observation::{TEXT_AT, Text};
use crate::orchestrator::Orchestrator;

pub(crate) fn id(logical_name: &str) -> String {
    format!("node-1/{logical_name}")
}

impl Orchestrator {
    /// One try.
    pub(crate) async fn once(&self, call: Call) -> Result<(), Status> {
        match call {
            Call::Create(name, class, extents) | Call::CreateTooLarge(name, class, extents) => {
                self.create(name, class, extents, None).await
            }
            Call::Copy(name, class, extents, from) | Call::CopyTooLarge(name, class, extents, from) => {
                self.create(name, class, extents, Some(from)).await
            }
            Call::Snapshot(name, volume) => self.snapshot(name, volume).await,
            Call::DeleteSnapshot(name) => {
                let request = v1::DeleteSnapshotRequest {
                    snapshot_id: id(&snapshot_name(name)),
                    ..v1::DeleteSnapshotRequest::default()
                };
                self.controller().delete_snapshot(Request::new(request)).await.map(drop)
            }
            Call::GroupSnapshot(name, volumes) => self.group_snapshot(name, volumes).await,
            Call::DeleteGroupSnapshot(name) => {
                let request = v1::DeleteVolumeGroupSnapshotRequest {
                    group_snapshot_id: id(&group_snapshot_name(name)),
                    ..v1::DeleteVolumeGroupSnapshotRequest::default()
                };
                self.group_controller().delete_volume_group_snapshot(Request::new(request)).await.map(drop)
            }
            Call::Delete(name) | Call::DeleteRefused(name) => self.delete(name).await,
            Call::DeleteForgotten(name) => match self.delete(name).await {
                Err(refused) if refused.code() == Code::FailedPrecondition => {
                    sleep(Duration::from_secs(26)).await;
                    self.delete(name).await
                }
                answer => answer,
            },
            Call::Grow(name, extents) => {
                let request = v1::ControllerExpandVolumeRequest {
                    volume_id: id(name),
                    capacity_range: Some(range(extents)),
                    ..v1::ControllerExpandVolumeRequest::default()
                };
                self.controller().controller_expand_volume(Request::new(request)).await.map(drop)
            }
            Call::GrowMounted(name, target, extents) => {
                let request = v1::NodeExpandVolumeRequest {
                    volume_id: id(name),
                    volume_path: text(&self.target(target)),
                    capacity_range: Some(range(extents)),
                    ..v1::NodeExpandVolumeRequest::default()
                };
                self.node_service().node_expand_volume(Request::new(request)).await.map(drop)
            }
            Call::Stage(name, how) => self.stage(name, how).await,
            Call::Unstage(name) => {
                let request = v1::NodeUnstageVolumeRequest {
                    volume_id: id(name),
                    staging_target_path: text(&self.staging(name)),
                };
                self.node_service().node_unstage_volume(Request::new(request)).await.map(drop)
            }
            Call::Publish(name, target, how) => self.publish(name, target, how).await,
            Call::Unpublish(name, target) => {
                let request =
                    v1::NodeUnpublishVolumeRequest { volume_id: id(name), target_path: text(&self.target(target)) };
                self.node_service().node_unpublish_volume(Request::new(request)).await.map(drop)
            }
            Call::Write(target) => {
                self.write(target, Text::First);
                Ok(())
            }
            Call::Overwrite(target) => {
                self.write(target, Text::Later);
                Ok(())
            }
            Call::Fill(target, quarters) | Call::Overfill(target, quarters) => {
                self.fill(target, quarters);
                Ok(())
            }
            Call::FillMetadata(name, blocks) => {
                let mut machine = self.bench.machine();
                let thin = machine.volume("vg", name).and_then(|volume| volume.thin()).cloned().unwrap();
                machine.pool_of_mut("vg", &thin).used_metadata = blocks;
                Ok(())
            }
        }
    }

    fn controller(&self) -> ControllerService {
        ControllerService { node: Arc::clone(&self.node) }
    }

    fn node_service(&self) -> NodeService {
        NodeService { node: Arc::clone(&self.node) }
    }

    async fn create(&self, name: &str, class: &str, extents: usize, from: Option<From>) -> Result<(), Status> {
        let source = from.map(|from| match from {
            From::Snapshot(name) => Type::Snapshot(SnapshotSource { snapshot_id: id(&snapshot_name(name)) }),
            From::Volume(name) => Type::Volume(VolumeSource { volume_id: id(name) }),
        });
        let request = v1::CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(range(extents)),
            volume_capabilities: vec![Use::Mount.capability()],
            parameters: [("class".to_owned(), class.to_owned())].into(),
            volume_content_source: source.map(|source| v1::VolumeContentSource { r#type: Some(source) }),
            ..v1::CreateVolumeRequest::default()
        };
        let volume = self.controller().create_volume(Request::new(request)).await?.into_inner().volume.unwrap();
        assert_eq!(volume.volume_id, id(name));
        assert_eq!(volume.capacity_bytes, bytes(extents));
        Ok(())
    }

    async fn snapshot(&self, name: &str, volume: &str) -> Result<(), Status> {
        let request = v1::CreateSnapshotRequest {
            name: name.to_owned(),
            source_volume_id: id(volume),
            ..v1::CreateSnapshotRequest::default()
        };
        let answer = self.controller().create_snapshot(Request::new(request)).await?;
        let snapshot = answer.into_inner().snapshot.unwrap();
        assert_eq!((snapshot.snapshot_id, snapshot.source_volume_id), (id(&snapshot_name(name)), id(volume)));
        assert!(snapshot.ready_to_use);
        Ok(())
    }

    fn group_controller(&self) -> GroupControllerService {
        GroupControllerService { node: Arc::clone(&self.node) }
    }

    async fn group_snapshot(&self, name: &str, volumes: &[&str]) -> Result<(), Status> {
        let request = v1::CreateVolumeGroupSnapshotRequest {
            name: name.to_owned(),
            source_volume_ids: volumes.iter().map(|volume| id(volume)).collect(),
            ..v1::CreateVolumeGroupSnapshotRequest::default()
        };
        let answer = self.group_controller().create_volume_group_snapshot(Request::new(request)).await?;
        let group = answer.into_inner().group_snapshot.unwrap();
        assert!(group.ready_to_use);
        let mut told: Vec<String> = group.snapshots.into_iter().map(|snapshot| snapshot.snapshot_id).collect();
        let mut all: Vec<String> = volumes.iter().map(|volume| id(&member_name(name, volume))).collect();
        told.sort();
        all.sort();
        assert_eq!(told, all, "a part of group snapshot {name} is answered");
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), Status> {
        let request = v1::DeleteVolumeRequest { volume_id: id(name), ..v1::DeleteVolumeRequest::default() };
        self.controller().delete_volume(Request::new(request)).await.map(drop)
    }

    async fn stage(&self, name: &str, how: Use) -> Result<(), Status> {
        fs::create_dir_all(self.staging(name)).unwrap();
        let request = v1::NodeStageVolumeRequest {
            volume_id: id(name),
            staging_target_path: text(&self.staging(name)),
            volume_capability: Some(how.capability()),
            ..v1::NodeStageVolumeRequest::default()
        };
        self.node_service().node_stage_volume(Request::new(request)).await.map(drop)
    }

    async fn publish(&self, name: &str, target: &str, how: Use) -> Result<(), Status> {
        let request = v1::NodePublishVolumeRequest {
            volume_id: id(name),
            staging_target_path: text(&self.staging(name)),
            target_path: text(&self.target(target)),
            volume_capability: Some(how.capability()),
            readonly: how.is_read_only(),
            ..v1::NodePublishVolumeRequest::default()
        };
        self.node_service().node_publish_volume(Request::new(request)).await.map(drop)
    }

    /// A user who writes much and syncs; not an effect of the driver.
    fn fill(&self, target: &str, quarters: usize) {
        let mut machine = self.bench.machine();
        let minor = machine.shown_at(&self.target(target)).expect("nothing is shown to the user");
        let quarter = EXTENT / 4;
        machine.write_device(minor, quarter, &vec![7; quarters * quarter]).unwrap();
        machine.flush_device(minor);
    }

    /// A user who writes and syncs; not an effect of the driver.
    fn write(&self, target: &str, text: Text) {
        let mut machine = self.bench.machine();
        let minor = machine.shown_at(&self.target(target)).expect("nothing is shown to the user");
        machine.write_device(minor, TEXT_AT, text.bytes()).unwrap();
        machine.note_synced(minor);
        machine.flush_device(minor);
    }
}

fn range(extents: usize) -> v1::CapacityRange {
    v1::CapacityRange { required_bytes: bytes(extents), limit_bytes: 0 }
}

fn bytes(extents: usize) -> i64 {
    i64::try_from(extents * EXTENT).unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
