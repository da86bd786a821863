//! A CSI client with the few requests that trials make all the time.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use quarry::csi::v1;
use quarry::csi::v1::controller_client::ControllerClient;
use quarry::csi::v1::group_controller_client::GroupControllerClient;
use quarry::csi::v1::identity_client::IdentityClient;
use quarry::csi::v1::node_client::NodeClient;
use quarry::csi::v1::snapshot_metadata_client::SnapshotMetadataClient;
use quarry::csi::v1::volume_capability::access_mode::Mode;
use quarry::csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use quarry::csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Between two tries of a call.
pub const PAUSE: Duration = Duration::from_millis(50);

/// Clients of all services of a node; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub identity: IdentityClient<Channel>,
    pub controller: ControllerClient<Channel>,
    pub groups: GroupControllerClient<Channel>,
    pub node: NodeClient<Channel>,
    pub metadata: SnapshotMetadataClient<Channel>,
}

impl Client {
    /// Connects to the node's socket.
    pub async fn connect(socket: &str) -> Result<Self> {
        let endpoint = Endpoint::try_from(format!("unix://{socket}"))?;
        let channel = endpoint.connect().await.with_context(|| format!("no node answers at {socket}"))?;
        Ok(Self {
            identity: IdentityClient::new(channel.clone()),
            controller: ControllerClient::new(channel.clone()),
            groups: GroupControllerClient::new(channel.clone()),
            node: NodeClient::new(channel.clone()),
            metadata: SnapshotMetadataClient::new(channel),
        })
    }
}

/// Makes a call again and again, as long as its refusal is one that `is_passing`.
pub async fn patiently<T, F>(
    limit: Duration,
    is_passing: impl Fn(&Status) -> bool,
    call: impl Fn() -> F,
) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let begun = Instant::now();
    loop {
        match call().await {
            Err(status) if is_passing(&status) && begun.elapsed() < limit => {
                if is_slow_disk(&status) {
                    println!("asked again: {}", status.message());
                }
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// Whether a call only met a disk that took longer for a read than the node waits: on a machine with much to do it may.
pub fn is_slow_disk(status: &Status) -> bool {
    let words = ["did not answer within", "has hung for"];
    status.code() == Code::Unavailable && words.iter().any(|words| status.message().contains(words))
}

/// To be mounted, by any number of users of this node.
pub fn mounted(file_system: &str) -> v1::VolumeCapability {
    let mount = MountVolume { fs_type: file_system.to_owned(), ..MountVolume::default() };
    capability(AccessType::Mount(mount), Mode::SingleNodeMultiWriter)
}

/// To be used as a raw block device.
pub fn block() -> v1::VolumeCapability {
    capability(AccessType::Block(BlockVolume {}), Mode::SingleNodeMultiWriter)
}

/// A capability.
pub fn capability(access: AccessType, mode: Mode) -> v1::VolumeCapability {
    v1::VolumeCapability { access_type: Some(access), access_mode: Some(AccessMode { mode: mode.into() }) }
}

/// The parameters of a request for something of a class.
pub fn class(name: &str) -> HashMap<String, String> {
    HashMap::from([(String::from("class"), name.to_owned())])
}

/// A request for a new volume of at least so many bytes.
pub fn create(name: &str, bytes: i64, capability: v1::VolumeCapability) -> v1::CreateVolumeRequest {
    v1::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(v1::CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        volume_capabilities: vec![capability],
        ..v1::CreateVolumeRequest::default()
    }
}

/// What a volume is copied from.
pub fn source(id: &str, is_snapshot: bool) -> v1::VolumeContentSource {
    let id = id.to_owned();
    let source = if is_snapshot {
        Type::Snapshot(SnapshotSource { snapshot_id: id })
    } else {
        Type::Volume(VolumeSource { volume_id: id })
    };
    v1::VolumeContentSource { r#type: Some(source) }
}

/// A request to stage a volume.
pub fn stage(volume_id: &str, path: &Path, capability: v1::VolumeCapability) -> v1::NodeStageVolumeRequest {
    v1::NodeStageVolumeRequest {
        volume_id: volume_id.to_owned(),
        staging_target_path: path.to_string_lossy().into_owned(),
        volume_capability: Some(capability),
        ..v1::NodeStageVolumeRequest::default()
    }
}

/// A request to publish a staged volume.
pub fn publish(
    volume_id: &str,
    staging: &Path,
    target: &Path,
    capability: v1::VolumeCapability,
) -> v1::NodePublishVolumeRequest {
    v1::NodePublishVolumeRequest {
        volume_id: volume_id.to_owned(),
        staging_target_path: staging.to_string_lossy().into_owned(),
        target_path: target.to_string_lossy().into_owned(),
        volume_capability: Some(capability),
        ..v1::NodePublishVolumeRequest::default()
    }
}
