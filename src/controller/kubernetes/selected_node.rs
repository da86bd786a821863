//! Sends the claim of a copy to the node of its source.
//!
//! Kubernetes' scheduler knows nothing of sources. Told that a node has no room it chooses again by the same rules, and where
//! those prefer another node than the source's, it chooses that for ever (seen: 55 times in 11 minutes, three nodes). The
//! node that it has chosen stands at the claim, though, and it runs pods of a claim nowhere but there: so the right one is
//! written in its place.

use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::lvm::tags::Claim;

/// The annotation, with the slash as a JSON pointer writes it.
const SELECTED_NODE: &str = "/metadata/annotations/volume.kubernetes.io~1selected-node";
/// What external-provisioner puts before a claim's uid to name its volume.
const VOLUME_PREFIX: &str = "pvc-";
/// The call that found it out waits no longer for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Changes which nodes are selected.
pub struct SelectedNode {
    /// The API server.
    pub client: Client,
}

impl SelectedNode {
    /// Has a claim go to the node `right` instead of the `chosen` one, both by their names as Nodes; answers whether it will.
    /// Nothing is changed when the claim is not the one of that volume, or goes elsewhere by now.
    pub async fn correct(&self, claim: &Claim, volume: &str, chosen: &str, right: &str) -> bool {
        let Some(uid) = volume.strip_prefix(VOLUME_PREFIX) else { return false };
        let changes = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": SELECTED_NODE, "value": chosen},
            {"op": "replace", "path": SELECTED_NODE, "value": right},
        ]);
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &claim.namespace);
        let (namespace, name) = (&claim.namespace, &claim.name);
        let write = async {
            let changes = serde_json::from_value(changes).map_err(kube::Error::SerdeError)?;
            let patch = Patch::Json::<()>(changes);
            claims.patch_metadata(&claim.name, &PatchParams::default(), &patch).await
        };
        match tokio::time::timeout(PATIENCE, write).await {
            Ok(Ok(_)) => {
                tracing::info!(namespace, name, chosen, right, "sent to the node of its source");
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, namespace, name, chosen, right, "could not send it to the node of its source");
                false
            }
            Err(_) => {
                tracing::warn!(namespace, name, chosen, right, "could not send it to the node of its source in time");
                false
            }
        }
    }
}
