//! `GetCapacity`: arithmetic over the live state of the groups. No process, no lock.

use crate::config::classes::Class;
use crate::error::Result;
use crate::node::Node;
use crate::node::placement;

/// Room for volumes of a class, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capacity {
    /// In all groups of the class together.
    pub available: u64,
    /// Of the largest volume that can be made now.
    pub largest: u64,
    /// Of the smallest volume that can be made: one extent.
    pub smallest: u64,
}

impl Node {
    /// The room for volumes of the class; nothing where the class has no group here.
    pub async fn capacity(&self, class: &Class) -> Result<Capacity> {
        let snapshot = self.groups.read().await?;
        let candidates = placement::candidates(&snapshot, class);
        Ok(Capacity {
            available: candidates.iter().map(placement::Candidate::largest_bytes).sum(),
            largest: candidates.first().map_or(0, placement::Candidate::largest_bytes),
            smallest: candidates.iter().map(|candidate| candidate.group.extent_bytes).min().unwrap_or(0),
        })
    }
}
