//! The `SnapshotMetadata` service of a controller: which node, forward, hand on what it answers as it comes.

use std::sync::Arc;

use futures_util::TryStreamExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::forward::{Deadline, MetadataClient, failure};
use super::router::Router;
use crate::csi::observe::subject;
use crate::csi::request::blocks::BlocksOf;
use crate::csi::v1;
use crate::csi::v1::snapshot_metadata_server::SnapshotMetadata;
use crate::error::{Error, Result};
use crate::lvm::volume_id::VolumeId;

/// The `SnapshotMetadata` service of a controller.
#[derive(Clone)]
pub struct MetadataService {
    /// Knows the nodes.
    pub router: Arc<Router>,
}

/// The node with what is asked about; both snapshots are on it, for they are of one volume.
fn owner(wanted: &BlocksOf) -> Result<String> {
    subject(&wanted.snapshot);
    let node = |id: &str| {
        let not_found = || Error::NotFound { what: format!("snapshot {id:?}") };
        VolumeId::parse(id).map(|id| id.node).ok_or_else(not_found)
    };
    let owner = node(&wanted.snapshot)?;
    if let Some(base) = &wanted.base
        && node(base)? != owner
    {
        return Err(Error::invalid("base_snapshot_id", "is on another node, so it is of another volume"));
    }
    Ok(owner)
}

/// What the node says passes through; that it is silent before the end is said with its name.
fn handed_on<T: Send + 'static>(node: String, answers: Streaming<T>) -> Response<BoxStream<T>> {
    Response::new(Box::pin(answers.map_err(move |status| failure(&node, status).into())))
}

#[tonic::async_trait]
impl SnapshotMetadata for MetadataService {
    async fn get_metadata_allocated(
        &self,
        request: Request<v1::GetMetadataAllocatedRequest>,
    ) -> std::result::Result<Response<BoxStream<v1::GetMetadataAllocatedResponse>>, Status> {
        let (deadline, request) = (Deadline::of(request.metadata()), request.into_inner());
        let node = owner(&BlocksOf::allocated(&request)?)?;
        let call = |mut client: MetadataClient, request| async move { client.get_metadata_allocated(request).await };
        let answers = self.router.call(&node, deadline, request, call).await?;
        Ok(handed_on(node, answers))
    }

    async fn get_metadata_delta(
        &self,
        request: Request<v1::GetMetadataDeltaRequest>,
    ) -> std::result::Result<Response<BoxStream<v1::GetMetadataDeltaResponse>>, Status> {
        let (deadline, request) = (Deadline::of(request.metadata()), request.into_inner());
        let node = owner(&BlocksOf::changed(&request)?)?;
        let call = |mut client: MetadataClient, request| async move { client.get_metadata_delta(request).await };
        let answers = self.router.call(&node, deadline, request, call).await?;
        Ok(handed_on(node, answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_snapshots_are_on_one_node() {
        let wanted = |base: Option<&str>, snapshot: &str| {
            let base = base.map(str::to_owned);
            owner(&BlocksOf { base, snapshot: snapshot.to_owned(), start: 0, most: 1 })
        };
        assert_eq!(wanted(Some("n1/snap-a"), "n1/snap-b").unwrap(), "n1");
        assert_eq!(wanted(None, "n1/snap-b").unwrap(), "n1");
        assert!(matches!(wanted(Some("n2/snap-a"), "n1/snap-b"), Err(Error::InvalidArgument { .. })));
        assert!(matches!(wanted(Some("nonsense"), "n1/snap-b"), Err(Error::NotFound { .. })));
        assert!(matches!(wanted(None, "nonsense"), Err(Error::NotFound { .. })));
    }
}
