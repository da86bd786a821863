//! What a node serves to a controller: all but what shows volumes to users of this machine.

use std::sync::Arc;

use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;

use crate::csi::identity::IdentityService;
use crate::csi::meant_node::OnlyFor;
use crate::csi::v1::controller_server::ControllerServer;
use crate::csi::v1::group_controller_server::GroupControllerServer;
use crate::csi::v1::identity_server::IdentityServer;
use crate::csi::v1::snapshot_metadata_server::SnapshotMetadataServer;
use crate::node::Node;
use crate::node::controller_service::ControllerService;
use crate::node::group_controller_service::GroupControllerService;
use crate::node::metadata_service::MetadataService;

/// The services for a controller.
pub fn routes(node: &Arc<Node>) -> Routes {
    let only = OnlyFor { node: node.identity.topology.clone() };
    let identity = IdentityServer::new(IdentityService { driver: node.identity.driver.clone() });
    let controller = ControllerServer::new(ControllerService { node: Arc::clone(node) });
    let groups = GroupControllerServer::new(GroupControllerService { node: Arc::clone(node) });
    let metadata = SnapshotMetadataServer::new(MetadataService { node: Arc::clone(node) });
    Routes::new(InterceptedService::new(identity, only.clone()))
        .add_service(InterceptedService::new(controller, only.clone()))
        .add_service(InterceptedService::new(groups, only.clone()))
        .add_service(InterceptedService::new(metadata, only))
}
