//! What the driver offers; the same in both modes, as the specification asks of a plugin.

use crate::csi::v1;
use crate::csi::v1::controller_service_capability::rpc::Type;
use crate::csi::v1::controller_service_capability::{self, Rpc};

const CONTROLLER: [Type; 12] = [
    Type::CreateDeleteVolume,
    Type::ListVolumes,
    Type::GetCapacity,
    Type::CreateDeleteSnapshot,
    Type::ListSnapshots,
    Type::GetSnapshot,
    Type::CloneVolume,
    Type::ExpandVolume,
    Type::GetVolume,
    Type::SingleNodeMultiWriter,
    Type::GetVolumeHealth,
    Type::ListVolumeHealth,
];

/// The answer to `ControllerGetCapabilities`.
pub fn controller_capabilities() -> v1::ControllerGetCapabilitiesResponse {
    let capabilities = CONTROLLER.map(|rpc| v1::ControllerServiceCapability {
        r#type: Some(controller_service_capability::Type::Rpc(Rpc { r#type: rpc.into() })),
    });
    v1::ControllerGetCapabilitiesResponse { capabilities: capabilities.to_vec() }
}
