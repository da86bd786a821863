//! Which blocks of a snapshot hold data, and which may differ from those of an earlier one: of thin snapshots, whose pool knows.
//! A snapshot never changes, so who was cut off goes on where it was, whatever became of the volume since.

use std::ops::Range;
use std::sync::Arc;

use super::VolumeSnapshot;
use crate::csi::request::blocks::BlocksOf;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::node::pools::blocks::{Asked, chunk_of};
use crate::node::pools::cut::Origin;
use crate::node::units::Units;

/// Pieces of a pool that are told apart: with more, neighbours count as one. A bit each, 8 MiB; with the least piece, of 64 KiB,
/// it is for 4 TiB.
const MOST_UNITS: u64 = 64 << 20;

/// The ranges that were asked for. All are known before the first is told, so who takes them slowly holds up nobody: neither the
/// pool, whose metadata grows while it is read, nor others who ask.
pub struct Blocks {
    /// Bytes of the volume.
    pub bytes: u64,
    at: u64,
    found: Units,
}

#[cfg(test)]
impl Blocks {
    /// Those units of 64 KiB of a volume in which a range lies, from a place on.
    pub(in crate::node) fn of(bytes: u64, at: u64, ranges: &[Range<u64>]) -> Self {
        let mut found = Units::none(bytes, 64 << 10);
        for range in ranges {
            found.add_touched(range);
        }
        Self { bytes, at, found }
    }
}

impl Iterator for Blocks {
    type Item = Range<u64>;

    /// The next range, bytes, in ascending order, from where they were asked for on.
    fn next(&mut self) -> Option<Self::Item> {
        let found = self.found.next(self.at)?;
        let range = found.start.max(self.at)..found.end.min(self.bytes);
        self.at = range.end;
        (!range.is_empty()).then_some(range)
    }
}

impl Node {
    /// The blocks of a snapshot that are asked for. When this is dropped, or the node is told to end, the reading ends.
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
        let chunk = chunk_of(&asked.origin)?;
        let unit = chunk.saturating_mul(bytes.div_ceil(chunk).div_ceil(MOST_UNITS).max(1));
        let (node, unwanted) = (Arc::clone(self), self.stop.child_token());
        let _unwanted_when_dropped = unwanted.clone().drop_guard();
        // What is held for it is given back in any case.
        let reading = self.detached.spawn(async move {
            let mut found = Units::none(bytes, unit);
            let read = node.blocks(&asked, &unwanted, |range| found.add_touched(&range)).await;
            read.map(|()| found)
        });
        let found = reading
            .await
            .map_err(|failure| Error::Internal { problem: format!("reading the blocks broke off: {failure}") })?;
        Ok(Blocks { bytes, at: wanted.start, found: found? })
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
