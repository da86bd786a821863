//! The Node service. Parse, call, answer.

use std::path::Path;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::csi::observe::subject;
use crate::csi::request::capability::Capability;
use crate::csi::request::size::SizeRange;
use crate::csi::request::text;
use crate::csi::v1;
use crate::csi::v1::node_server::Node as NodeRpc;
use crate::csi::v1::node_service_capability::rpc::Type as Rpc;
use crate::csi::v1::volume_usage::Unit;
use crate::error::{Error, Result};
use crate::host::kernel::FileSystemUsage;
use crate::node::Node;
use crate::node::controller_service::{signed, volume_health};
use crate::node::health::Severity;
use crate::node::publish::Publish;
use crate::node::stage::Stage;
use crate::node::stats::Stats;

const CAPABILITIES: [Rpc; 6] = [
    Rpc::StageUnstageVolume,
    Rpc::GetVolumeStats,
    Rpc::ExpandVolume,
    Rpc::SingleNodeMultiWriter,
    Rpc::GetVolumeHealth,
    Rpc::GetStorageHealth,
];

/// The Node service.
#[derive(Clone)]
pub struct NodeService {
    /// The node that does the work.
    pub node: Arc<Node>,
}

impl NodeService {
    async fn stage(&self, request: &v1::NodeStageVolumeRequest) -> Result<()> {
        text::required("volume_id", &request.volume_id)?;
        let staging_path = text::path("staging_target_path", &request.staging_target_path)?;
        text::map("publish_context", &request.publish_context)?;
        text::map("volume_context", &request.volume_context)?;
        text::map("secrets", &request.secrets)?;
        let capability = Capability::required("volume_capability", request.volume_capability.as_ref())?;
        self.node.stage(Stage { volume_id: request.volume_id.clone(), staging_path, capability }).await
    }

    async fn unstage(&self, request: &v1::NodeUnstageVolumeRequest) -> Result<()> {
        text::required("volume_id", &request.volume_id)?;
        let path = text::path("staging_target_path", &request.staging_target_path)?;
        self.node.unstage(&request.volume_id, path).await
    }

    async fn publish(&self, request: &v1::NodePublishVolumeRequest) -> Result<()> {
        text::required("volume_id", &request.volume_id)?;
        let target_path = text::path("target_path", &request.target_path)?;
        text::map("publish_context", &request.publish_context)?;
        text::map("volume_context", &request.volume_context)?;
        text::map("secrets", &request.secrets)?;
        let capability = Capability::required("volume_capability", request.volume_capability.as_ref())?;
        if request.staging_target_path.is_empty() {
            return Err(Error::precondition(
                "staging_target_path is missing; volumes are staged before they are published",
            ));
        }
        let staging_path = text::path("staging_target_path", &request.staging_target_path)?;
        let (volume_id, read_only) = (request.volume_id.clone(), request.readonly);
        self.node.publish(Publish { volume_id, staging_path, target_path, read_only, capability }).await
    }

    async fn unpublish(&self, request: &v1::NodeUnpublishVolumeRequest) -> Result<()> {
        text::required("volume_id", &request.volume_id)?;
        let path = text::path("target_path", &request.target_path)?;
        self.node.unpublish(&request.volume_id, path).await
    }

    async fn stats(&self, request: &v1::NodeGetVolumeStatsRequest) -> Result<v1::NodeGetVolumeStatsResponse> {
        text::required("volume_id", &request.volume_id)?;
        if request.volume_path.is_empty() {
            return Err(Error::invalid("volume_path", "is missing"));
        }
        let usage = match self.node.stats(&request.volume_id, Path::new(&request.volume_path)).await? {
            Stats::FileSystem(usage) => file_system_usage(&usage)?,
            Stats::Block(bytes) => {
                vec![v1::VolumeUsage { unit: Unit::Bytes.into(), total: signed(bytes)?, available: 0, used: 0 }]
            }
        };
        Ok(v1::NodeGetVolumeStatsResponse { usage })
    }

    async fn expand(&self, request: &v1::NodeExpandVolumeRequest) -> Result<v1::NodeExpandVolumeResponse> {
        text::required("volume_id", &request.volume_id)?;
        if request.volume_path.is_empty() {
            return Err(Error::invalid("volume_path", "is missing"));
        }
        if request.volume_capability.is_some() {
            Capability::required("volume_capability", request.volume_capability.as_ref())?;
        }
        let size = SizeRange::parse(request.capacity_range.as_ref())?;
        let path = Path::new(&request.volume_path).to_owned();
        let bytes = self.node.expand_mounted(&request.volume_id, path, size).await?;
        Ok(v1::NodeExpandVolumeResponse { capacity_bytes: signed(bytes)? })
    }

    async fn health(&self, request: &v1::NodeGetVolumeHealthRequest) -> Result<v1::NodeGetVolumeHealthResponse> {
        text::required("volume_id", &request.volume_id)?;
        let paths = [request.volume_publish_path.as_str(), request.staging_target_path.as_str()];
        let shown_at = paths.into_iter().find(|path| !path.is_empty());
        let name = self.node.known_name(&request.volume_id)?;
        let conditions = self.node.volume_health(&name, shown_at).await?;
        Ok(v1::NodeGetVolumeHealthResponse {
            volume_health: Some(volume_health(request.volume_id.clone(), conditions)),
        })
    }

    async fn storage_health(&self) -> Result<v1::NodeGetStorageHealthResponse> {
        let conditions = self.node.storage_health().await?;
        let backends =
            conditions.into_iter().map(|condition| v1::node_get_storage_health_response::StorageBackendHealth {
                status: match condition.severity {
                    Severity::Degraded => v1::StorageHealthErrorType::StorageDegraded.into(),
                    Severity::Inaccessible => v1::StorageHealthErrorType::StorageUnreachable.into(),
                },
                reason: condition.reason.to_owned(),
                message: condition.message,
                volume_capability: None,
            });
        Ok(v1::NodeGetStorageHealthResponse { backend_health: backends.collect() })
    }
}

fn file_system_usage(usage: &FileSystemUsage) -> Result<Vec<v1::VolumeUsage>> {
    let bytes = v1::VolumeUsage {
        unit: Unit::Bytes.into(),
        total: signed(usage.total_bytes)?,
        available: signed(usage.available_bytes)?,
        used: signed(usage.used_bytes)?,
    };
    let inodes = v1::VolumeUsage {
        unit: Unit::Inodes.into(),
        total: signed(usage.total_inodes)?,
        available: signed(usage.free_inodes)?,
        used: signed(usage.total_inodes.saturating_sub(usage.free_inodes))?,
    };
    Ok(vec![bytes, inodes])
}

type Answer<T> = std::result::Result<Response<T>, Status>;

#[tonic::async_trait]
impl NodeRpc for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<v1::NodeStageVolumeRequest>,
    ) -> Answer<v1::NodeStageVolumeResponse> {
        subject(&request.get_ref().volume_id);
        self.stage(request.get_ref()).await?;
        Ok(Response::new(v1::NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<v1::NodeUnstageVolumeRequest>,
    ) -> Answer<v1::NodeUnstageVolumeResponse> {
        subject(&request.get_ref().volume_id);
        self.unstage(request.get_ref()).await?;
        Ok(Response::new(v1::NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<v1::NodePublishVolumeRequest>,
    ) -> Answer<v1::NodePublishVolumeResponse> {
        subject(&request.get_ref().volume_id);
        self.publish(request.get_ref()).await?;
        Ok(Response::new(v1::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<v1::NodeUnpublishVolumeRequest>,
    ) -> Answer<v1::NodeUnpublishVolumeResponse> {
        subject(&request.get_ref().volume_id);
        self.unpublish(request.get_ref()).await?;
        Ok(Response::new(v1::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<v1::NodeGetVolumeStatsRequest>,
    ) -> Answer<v1::NodeGetVolumeStatsResponse> {
        Ok(Response::new(self.stats(request.get_ref()).await?))
    }

    async fn node_expand_volume(
        &self,
        request: Request<v1::NodeExpandVolumeRequest>,
    ) -> Answer<v1::NodeExpandVolumeResponse> {
        subject(&request.get_ref().volume_id);
        Ok(Response::new(self.expand(request.get_ref()).await?))
    }

    async fn node_get_volume_health(
        &self,
        request: Request<v1::NodeGetVolumeHealthRequest>,
    ) -> Answer<v1::NodeGetVolumeHealthResponse> {
        Ok(Response::new(self.health(request.get_ref()).await?))
    }

    async fn node_get_storage_health(
        &self,
        _request: Request<v1::NodeGetStorageHealthRequest>,
    ) -> Answer<v1::NodeGetStorageHealthResponse> {
        Ok(Response::new(self.storage_health().await?))
    }

    async fn node_get_capabilities(
        &self,
        _request: Request<v1::NodeGetCapabilitiesRequest>,
    ) -> Answer<v1::NodeGetCapabilitiesResponse> {
        let capabilities = CAPABILITIES.map(|rpc| v1::NodeServiceCapability {
            r#type: Some(v1::node_service_capability::Type::Rpc(v1::node_service_capability::Rpc {
                r#type: rpc.into(),
            })),
        });
        Ok(Response::new(v1::NodeGetCapabilitiesResponse { capabilities: capabilities.to_vec() }))
    }

    async fn node_get_info(&self, _request: Request<v1::NodeGetInfoRequest>) -> Answer<v1::NodeGetInfoResponse> {
        Ok(Response::new(v1::NodeGetInfoResponse {
            node_id: self.node.identity.name.clone(),
            max_volumes_per_node: self.node.identity.max_volumes,
            accessible_topology: Some(self.node.topology()),
        }))
    }
}
