//! Which blocks of a snapshot hold data, and which may differ from those of an earlier one: of thin snapshots, whose pool knows.
//! A snapshot never changes, so who was cut off goes on where it was, whatever became of the volume since.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use super::VolumeSnapshot;
use crate::csi::request::blocks::BlocksOf;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::node::pools::blocks::Asked;
use crate::node::pools::cut::Origin;

/// The ranges that were asked for, as they are found.
pub struct Blocks {
    /// Bytes of the volume.
    pub bytes: u64,
    start: u64,
    found: Receiver<Vec<Range<u64>>>,
    /// Reads them; ends soon after this is dropped.
    reading: Option<JoinHandle<Result<()>>>,
}

impl Blocks {
    /// The next ranges, bytes, in ascending order, from where they were asked for on; nothing when there are no more. Without
    /// an error before that, all were told.
    pub async fn next(&mut self) -> Option<Result<Vec<Range<u64>>>> {
        if let Some(ranges) = self.found.recv().await {
            let (start, end) = (self.start, self.bytes);
            let clipped = ranges.into_iter().map(|range| range.start.max(start)..range.end.min(end));
            return Some(Ok(clipped.filter(|range| !range.is_empty()).collect()));
        }
        match self.reading.take()?.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(failure) => Some(Err(Error::Internal { problem: format!("reading the blocks broke off: {failure}") })),
        }
    }
}

impl Node {
    /// The blocks of a snapshot that are asked for.
    pub async fn snapshot_blocks(self: &Arc<Self>, wanted: &BlocksOf) -> Result<Blocks> {
        let target = self.thin_snapshot(&wanted.snapshot).await?;
        let bytes = target.bytes();
        if wanted.start > bytes {
            let problem = format!("{} is beyond the {bytes} bytes of the snapshot", wanted.start);
            return Err(Error::OutOfRange { field: String::from("starting_offset"), problem });
        }
        let base = match &wanted.base {
            None => None,
            Some(base) => {
                let base = self.thin_snapshot(base).await?;
                if base.tags.source != target.tags.source {
                    let (one, other) = (self.volume_id(&base.tags.source), self.volume_id(&target.tags.source));
                    return Err(Error::invalid(
                        "base_snapshot_id",
                        format!("is of volume {one}, the other of {other}"),
                    ));
                }
                let pool = |snapshot: &VolumeSnapshot| {
                    let pool = snapshot.logical.thin.as_ref().map(|thin| thin.pool.clone());
                    (snapshot.group.uuid.clone(), pool)
                };
                if pool(&base) != pool(&target) {
                    return Err(Error::precondition(
                        "the two snapshots are in different thin pools, so nobody knows what changed; take all that is \
                         allocated",
                    ));
                }
                Some(origin(base))
            }
        };
        let asked = Asked { base, origin: origin(target) };
        let (sender, found) = mpsc::channel(4);
        let node = Arc::clone(self);
        let reading = self.detached.spawn(async move { node.blocks(&asked, sender).await });
        Ok(Blocks { bytes, start: wanted.start, found, reading: Some(reading) })
    }

    async fn thin_snapshot(&self, id: &str) -> Result<VolumeSnapshot> {
        let snapshot = self.get_snapshot(id).await?;
        if snapshot.is_thick() {
            return Err(Error::precondition(format!(
                "snapshot {id} is of a thick volume; allocated and changed blocks are known of thin ones only"
            )));
        }
        Ok(snapshot)
    }
}

fn origin(snapshot: VolumeSnapshot) -> Origin {
    Origin { group: snapshot.group, logical: snapshot.logical }
}
