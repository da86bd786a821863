//! `GetCapacity`: arithmetic over the live state of the groups. Starts no process and waits for no volume's lock.

use crate::config::classes::Class;
use crate::error::Result;
use crate::node::Node;
use crate::node::create::hidden_group;
use crate::node::placement::Candidate;

/// Room for volumes of a class, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capacity {
    /// In all groups of the class together.
    pub available: u64,
    /// Of the largest volume that can be made now.
    pub largest: u64,
    /// Of the smallest volume that can be made.
    pub smallest: u64,
}

impl Node {
    /// The room for volumes of the class with at least so many bytes; nothing where the class has no group here.
    pub async fn capacity(&self, class: &Class, least: u64) -> Result<Capacity> {
        let view = self.groups.read().await?;
        if hidden_group(&view, class).is_some() {
            // CreateVolume would put everybody off.
            return Ok(Capacity::default());
        }
        let smallest = |candidate: &Candidate| least.max(1).next_multiple_of(candidate.group.extent_bytes);
        let mut candidates = self.candidates(&view, class).await?;
        candidates.retain(|candidate| candidate.largest_bytes() >= smallest(candidate));
        Ok(Capacity {
            available: candidates.iter().map(Candidate::largest_bytes).sum(),
            largest: candidates.first().map_or(0, Candidate::largest_bytes),
            smallest: candidates.iter().map(smallest).min().unwrap_or(0),
        })
    }
}
