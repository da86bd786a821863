//! What of a source is copied: what its pool holds data for, and what its file system uses, where that is known for certain.

use std::path::Path;

use super::plan::Plan;
use super::reading::{Holds, Reading};
use crate::host::free_space::free_space;
use crate::node::Node;
use crate::node::pools::blocks::Asked;

impl Node {
    /// The plan for a copy of what is read, whose device is that. A copy that `is_raw` is its user's block by block; what
    /// nobody uses of a file system may stay what it is on the target, as with a fresh one.
    pub(super) async fn plan(&self, reading: &Reading, device: &Path, is_zeroed: bool, is_raw: bool) -> Plan {
        let mut plan = Plan::all(reading.bytes, is_zeroed);
        let source = &reading.origin.logical.name;
        if let (Holds::Files(file_system), false) = (reading.holds(), is_raw) {
            let mut free = plan.no_units();
            let seams = (&*self.kernel, &*self.commands);
            match free_space(seams, file_system, device, |range| free.add_whole(&range)).await {
                Ok(()) => plan = plan.without_free(free),
                Err(why) => {
                    tracing::info!(source, why, "copies all blocks: which of them the file system uses is not known");
                }
            }
        }
        if reading.origin.logical.thin.is_none() {
            return plan;
        }
        let mut mapped = plan.no_units();
        let asked = Asked { base: None, origin: reading.origin.clone() };
        match self.blocks(&asked, &self.stop, |range| mapped.add_touched(&range)).await {
            Ok(()) => plan.with_mapped(mapped),
            Err(error) => {
                tracing::warn!(%error, source, "copies all blocks: which of them its pool holds is not known");
                plan
            }
        }
    }
}
