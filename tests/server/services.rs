//! Services just good enough to be called.

use std::sync::Arc;

use quarry::csi::v1;
use quarry::csi::v1::identity_server::Identity;
use quarry::csi::v1::snapshot_metadata_server::SnapshotMetadata;
use tokio::sync::Notify;
use tokio_stream::StreamExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

/// Its probe says that it was called, and then waits to be told to answer.
#[derive(Clone, Default)]
pub(crate) struct Plugin {
    pub probed: Arc<Notify>,
    pub answer: Arc<Notify>,
}

#[tonic::async_trait]
impl Identity for Plugin {
    async fn get_plugin_info(
        &self,
        _: Request<v1::GetPluginInfoRequest>,
    ) -> Result<Response<v1::GetPluginInfoResponse>, Status> {
        Ok(Response::new(v1::GetPluginInfoResponse {
            name: "lvm.example".to_owned(),
            ..v1::GetPluginInfoResponse::default()
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<v1::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<v1::GetPluginCapabilitiesResponse>, Status> {
        Err(Status::failed_precondition(""))
    }

    async fn probe(&self, _: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeResponse>, Status> {
        self.probed.notify_one();
        self.answer.notified().await;
        Ok(Response::new(v1::ProbeResponse { ready: None }))
    }
}

/// Its first stream breaks off after one message, or panics if asked to; its second never ends.
pub(crate) struct Blocks;

#[tonic::async_trait]
impl SnapshotMetadata for Blocks {
    async fn get_metadata_allocated(
        &self,
        request: Request<v1::GetMetadataAllocatedRequest>,
    ) -> Result<Response<BoxStream<v1::GetMetadataAllocatedResponse>>, Status> {
        assert_ne!(request.get_ref().snapshot_id, "panic", "as asked");
        let answers = [Ok(v1::GetMetadataAllocatedResponse::default()), Err(Status::data_loss(""))];
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }

    async fn get_metadata_delta(
        &self,
        _: Request<v1::GetMetadataDeltaRequest>,
    ) -> Result<Response<BoxStream<v1::GetMetadataDeltaResponse>>, Status> {
        let answers = tokio_stream::iter([Ok(v1::GetMetadataDeltaResponse::default())]);
        Ok(Response::new(Box::pin(answers.chain(tokio_stream::pending()))))
    }
}
