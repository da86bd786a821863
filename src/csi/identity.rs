//! The Identity service, the same in both modes (CSI specification, `GetPluginCapabilities`).

use std::collections::HashMap;

use tonic::{Request, Response, Status};

use crate::csi::v1;
use crate::csi::v1::identity_server::Identity;
use crate::csi::v1::plugin_capability::service::Type as Service;
use crate::csi::v1::plugin_capability::volume_expansion::Type as Expansion;
use crate::csi::v1::plugin_capability::{self, Type};

/// Answers who the driver is.
#[derive(Debug, Clone)]
pub struct IdentityService {
    /// The driver's name.
    pub driver: String,
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _request: Request<v1::GetPluginInfoRequest>,
    ) -> Result<Response<v1::GetPluginInfoResponse>, Status> {
        Ok(Response::new(v1::GetPluginInfoResponse {
            name: self.driver.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: HashMap::new(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _request: Request<v1::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<v1::GetPluginCapabilitiesResponse>, Status> {
        let service = |service: Service| Type::Service(plugin_capability::Service { r#type: service.into() });
        let expansion =
            |kind: Expansion| Type::VolumeExpansion(plugin_capability::VolumeExpansion { r#type: kind.into() });
        let capabilities = [
            service(Service::ControllerService),
            service(Service::GroupControllerService),
            service(Service::VolumeAccessibilityConstraints),
            service(Service::SnapshotAccessibilityConstraints),
            service(Service::SnapshotMetadataService),
            expansion(Expansion::Online),
        ]
        .map(|capability| v1::PluginCapability { r#type: Some(capability) });
        Ok(Response::new(v1::GetPluginCapabilitiesResponse { capabilities: capabilities.to_vec() }))
    }

    /// Takes no lock and looks at no volume group: a missing group must not restart the driver, which
    /// could not bring it back.
    async fn probe(&self, _request: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeResponse>, Status> {
        Ok(Response::new(v1::ProbeResponse { ready: Some(true) }))
    }
}
