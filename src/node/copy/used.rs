//! What of a source is copied: what its pool holds data for, and what its file system uses, where that is known for certain.

use std::ops::Range;
use std::path::Path;

use tokio::sync::mpsc;

use super::plan::Plan;
use super::reading::{Holds, Reading};
use crate::error::Result;
use crate::host::free_space::free_space;
use crate::node::Node;
use crate::node::pools::blocks::Asked;

impl Node {
    /// The plan for a copy of what is read, whose device is that. A copy that `is_raw` is its user's block by block; what
    /// nobody uses of a file system may stay what it is on the target, as with a fresh one.
    pub(super) async fn plan(&self, reading: &Reading, device: &Path, is_zeroed: bool, is_raw: bool) -> Result<Plan> {
        let mut plan = Plan::all(reading.bytes, is_zeroed);
        if let (Holds::Files(file_system), false) = (reading.holds, is_raw) {
            let mut free = plan.free_units();
            let seams = (&*self.kernel, &*self.commands);
            match free_space(seams, file_system, device, |range| free.add(range)).await {
                Ok(()) => plan = plan.without_free(free),
                Err(why) => {
                    let source = &reading.origin.logical.name;
                    tracing::info!(source, why, "copies all blocks: which of them the file system uses is not known");
                }
            }
        }
        if reading.origin.logical.thin.is_none() {
            return Ok(plan);
        }
        let mut mapped = plan.mapped_units();
        let asked = Asked { base: None, origin: reading.origin.clone() };
        let (sender, mut receiver) = mpsc::channel::<Vec<Range<u64>>>(1);
        let taking = async {
            while let Some(ranges) = receiver.recv().await {
                for range in ranges {
                    mapped.add(range);
                }
            }
        };
        let (read, ()) = tokio::join!(self.blocks(&asked, sender), taking);
        match read {
            Ok(()) => Ok(plan.with_mapped(mapped)),
            Err(error) => {
                let source = &reading.origin.logical.name;
                tracing::warn!(%error, source, "copies all blocks: which of them its pool holds could not be read");
                Ok(plan)
            }
        }
    }
}
