//! What the driver offers; the same in both modes, as the specification asks of a plugin.

use crate::csi::v1;
use crate::csi::v1::controller_service_capability::rpc::Type;
use crate::csi::v1::controller_service_capability::{self, Rpc};
use crate::csi::v1::group_controller_service_capability::{self as group, rpc::Type as GroupType};

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

/// The answer to `GroupControllerGetCapabilities`.
pub fn group_controller_capabilities() -> v1::GroupControllerGetCapabilitiesResponse {
    let rpc = group::Rpc { r#type: GroupType::CreateDeleteGetVolumeGroupSnapshot.into() };
    let capability = v1::GroupControllerServiceCapability { r#type: Some(group::Type::Rpc(rpc)) };
    v1::GroupControllerGetCapabilitiesResponse { capabilities: vec![capability] }
}
