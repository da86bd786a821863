//! The `SnapshotMetadata` service of a node: parse, call, answer, message by message.

use std::ops::Range;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::csi::observe::subject;
use crate::csi::request::blocks::BlocksOf;
use crate::csi::v1;
use crate::csi::v1::snapshot_metadata_server::SnapshotMetadata;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::node::controller_service::signed;
use crate::node::snapshot::blocks::Blocks;

/// The `SnapshotMetadata` service of a node.
#[derive(Clone)]
pub struct MetadataService {
    /// The node that does the work.
    pub node: Arc<Node>,
}

/// Cuts what is found into messages. Whoever takes them slowly does not keep the node from ending.
struct Messages {
    blocks: Blocks,
    most: usize,
    stop: CancellationToken,
    /// Whether a message was sent: the first one says how large the volume is, even if nothing was found.
    begun: bool,
    ended: bool,
}

impl Iterator for Messages {
    type Item = Result<Vec<v1::BlockMetadata>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let message = if self.stop.is_cancelled() { Err(ending()) } else { self.message() };
        self.ended = message.as_ref().map_or(true, |blocks| blocks.len() < self.most);
        let is_first = !std::mem::replace(&mut self.begun, true);
        let is_nothing = message.as_ref().is_ok_and(Vec::is_empty);
        (is_first || !is_nothing).then_some(message)
    }
}

impl Messages {
    fn message(&mut self) -> Result<Vec<v1::BlockMetadata>> {
        let block = |range: Range<u64>| {
            let (byte_offset, size_bytes) = (signed(range.start)?, signed(range.end - range.start)?);
            Ok(v1::BlockMetadata { byte_offset, size_bytes })
        };
        self.blocks.by_ref().take(self.most).map(block).collect()
    }
}

fn ending() -> Error {
    Error::Unavailable { problem: String::from("the node is ending; ask again from where it ended") }
}

impl MetadataService {
    async fn answers<T: Send + 'static>(
        &self,
        wanted: BlocksOf,
        answer: impl Fn(i64, Vec<v1::BlockMetadata>) -> T + Send + 'static,
    ) -> Result<BoxStream<T>> {
        subject(&wanted.snapshot);
        let blocks = self.node.snapshot_blocks(&wanted).await?;
        let (bytes, stop) = (signed(blocks.bytes)?, self.node.stop.clone());
        let messages = Messages { blocks, most: wanted.most, stop, begun: false, ended: false };
        let answers = messages.map(move |message| Ok(answer(bytes, message?)));
        Ok(Box::pin(tokio_stream::iter(answers)))
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

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: u64 = 64 << 10;

    fn messages(at: u64, ranges: &[Range<u64>], most: usize) -> Messages {
        let blocks = Blocks::of(100 * UNIT - 512, at, ranges);
        Messages { blocks, most, stop: CancellationToken::new(), begun: false, ended: false }
    }

    fn told(messages: Messages) -> Vec<Vec<Range<u64>>> {
        let range = |block: v1::BlockMetadata| {
            let [start, length] = [block.byte_offset, block.size_bytes].map(|bytes| u64::try_from(bytes).unwrap());
            start..start + length
        };
        messages.map(|message| message.unwrap().into_iter().map(range).collect()).collect()
    }

    #[test]
    fn blocks_are_cut_into_messages_and_the_first_one_may_have_none() {
        let ranges = [0..5 * UNIT, 7 * UNIT..8 * UNIT, 9 * UNIT..10 * UNIT, 99 * UNIT..100 * UNIT];
        let mut all = ranges.to_vec();
        all[3].end -= 512;
        assert_eq!(told(messages(0, &ranges, 9)), std::slice::from_ref(&all));
        assert_eq!(told(messages(0, &ranges, 4)), std::slice::from_ref(&all));
        assert_eq!(told(messages(0, &ranges, 3)), [&all[..3], &all[3..]]);
        let mut rest = all.clone();
        rest[0].start = 3 * UNIT + 7;
        assert_eq!(told(messages(3 * UNIT + 7, &ranges, 1)), rest.chunks(1).collect::<Vec<_>>());
        let nothing = [Vec::<Range<u64>>::new()];
        assert_eq!(
            (told(messages(0, &[], 3)), told(messages(100 * UNIT, &ranges, 3))),
            (nothing.to_vec(), nothing.to_vec())
        );
    }

    #[test]
    fn a_stream_that_is_open_when_the_node_is_told_to_end_ends_with_an_error() {
        let ranges: Vec<_> = (0..50).map(|number| number * 2 * UNIT..(number * 2 + 1) * UNIT).collect();
        let mut messages = messages(0, &ranges, 1);
        assert!(messages.next().unwrap().is_ok());
        messages.stop.cancel();
        assert!(matches!(messages.next(), Some(Err(Error::Unavailable { .. }))));
        assert!(messages.next().is_none());
    }
}
