//! The `SnapshotMetadata` service of a node: parse, call, answer, message by message.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::csi::observe::subject;
use crate::csi::request::blocks::BlocksOf;
use crate::csi::v1;
use crate::csi::v1::snapshot_metadata_server::SnapshotMetadata;
use crate::error::Result;
use crate::node::Node;
use crate::node::controller_service::signed;
use crate::node::snapshot::blocks::Blocks;

/// The `SnapshotMetadata` service of a node.
#[derive(Clone)]
pub struct MetadataService {
    /// The node that does the work.
    pub node: Arc<Node>,
}

/// Cuts what is found into messages.
struct Messages {
    blocks: Blocks,
    most: usize,
    waiting: VecDeque<v1::BlockMetadata>,
    /// Whether a message was sent: the first one says how large the volume is, even if nothing was found.
    begun: bool,
    ended: bool,
}

impl Messages {
    async fn next(&mut self) -> Option<Result<Vec<v1::BlockMetadata>>> {
        while !self.ended && self.waiting.len() < self.most {
            match self.blocks.next().await {
                Some(Ok(ranges)) => {
                    for range in ranges {
                        let message = signed(range.start).and_then(|byte_offset| {
                            let size_bytes = signed(range.end - range.start)?;
                            Ok(v1::BlockMetadata { byte_offset, size_bytes })
                        });
                        match message {
                            Ok(message) => self.waiting.push_back(message),
                            Err(error) => return Some(Err(error)),
                        }
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    self.waiting.clear();
                    self.begun = true;
                    return Some(Err(error));
                }
                None => self.ended = true,
            }
        }
        let is_first = !std::mem::replace(&mut self.begun, true);
        let count = self.most.min(self.waiting.len());
        (is_first || count > 0).then(|| Ok(self.waiting.drain(..count).collect()))
    }
}

impl MetadataService {
    async fn answers<T: Send + 'static>(
        &self,
        wanted: BlocksOf,
        answer: impl Fn(i64, Vec<v1::BlockMetadata>) -> T + Send + 'static,
    ) -> Result<BoxStream<T>> {
        subject(&wanted.snapshot);
        let blocks = self.node.snapshot_blocks(&wanted).await?;
        let (bytes, waiting) = (signed(blocks.bytes)?, VecDeque::new());
        let messages = Messages { blocks, most: wanted.most, waiting, begun: false, ended: false };
        Ok(Box::pin(stream::unfold((messages, answer), move |(mut messages, answer)| async move {
            let message = messages.next().await?;
            let message = message.map(|ranges| answer(bytes, ranges)).map_err(Status::from);
            Some((message, (messages, answer)))
        })))
    }
}

/// Neighbours are merged.
const SHAPE: v1::BlockMetadataType = v1::BlockMetadataType::VariableLength;

#[tonic::async_trait]
impl SnapshotMetadata for MetadataService {
    async fn get_metadata_allocated(
        &self,
        request: Request<v1::GetMetadataAllocatedRequest>,
    ) -> std::result::Result<Response<BoxStream<v1::GetMetadataAllocatedResponse>>, Status> {
        let answer = |volume_capacity_bytes, block_metadata| v1::GetMetadataAllocatedResponse {
            block_metadata_type: SHAPE.into(),
            volume_capacity_bytes,
            block_metadata,
        };
        Ok(Response::new(self.answers(BlocksOf::allocated(request.get_ref())?, answer).await?))
    }

    async fn get_metadata_delta(
        &self,
        request: Request<v1::GetMetadataDeltaRequest>,
    ) -> std::result::Result<Response<BoxStream<v1::GetMetadataDeltaResponse>>, Status> {
        let answer = |volume_capacity_bytes, block_metadata| v1::GetMetadataDeltaResponse {
            block_metadata_type: SHAPE.into(),
            volume_capacity_bytes,
            block_metadata,
        };
        Ok(Response::new(self.answers(BlocksOf::changed(request.get_ref())?, answer).await?))
    }
}
