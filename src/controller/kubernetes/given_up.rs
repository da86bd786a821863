//! Tells the cluster of volumes that were deleted without their nodes.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;

use super::events::{self, Events};
use super::references::{reference_named, references};
use crate::controller::orphans::Reference;
use crate::lvm::volume_id::VolumeId;

const REASON: &str = "VolumeGivenUp";
/// A deletion waits no longer for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes the events.
pub struct GivenUp {
    /// The API server.
    pub client: Client,
    /// The driver's name.
    pub driver: String,
    /// What writes them.
    pub events: Arc<Events>,
}

impl GivenUp {
    /// Tells of a volume, on the objects that name it. Must come before the deletion is answered: then they go.
    pub async fn tell(&self, id: &VolumeId) {
        match tokio::time::timeout(PATIENCE, self.try_to_tell(id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, volume = %id, "could not tell the cluster what was given up"),
            Err(_) => tracing::warn!(volume = %id, "could not tell the cluster in time what was given up"),
        }
    }

    async fn try_to_tell(&self, id: &VolumeId) -> kube::Result<()> {
        let Some(reference) = self.reference_to(id).await? else { return Ok(()) };
        let message = format!(
            "node {} is gone from the cluster: volume {id} was given up as deleted, but its data is still on the node's \
             disks. Should the node come back, `quarry orphans` shows it",
            id.node
        );
        self.events.warn(events::persistent_volume(&reference.name), REASON, &message).await;
        if let Some((claim, uid)) = reference.claim {
            self.events.warn(events::claim(&claim, uid), REASON, &message).await;
        }
        Ok(())
    }

    /// Mostly it has the name that the logical volume has; else all are looked through.
    async fn reference_to(&self, id: &VolumeId) -> kube::Result<Option<Reference>> {
        let handle = id.to_string();
        let is_it = |reference: &Reference| reference.driver == self.driver && reference.handle == handle;
        match reference_named(&self.client, &id.logical_volume).await?.filter(is_it) {
            None => Ok(references(&self.client).await?.into_iter().find(is_it)),
            found => Ok(found),
        }
    }
}
