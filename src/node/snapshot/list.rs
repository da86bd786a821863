//! `ListSnapshots` and `GetSnapshot`: what is on this node, in the order of the names, page by page.

use super::VolumeSnapshot;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::node::list::PageRequest;

/// Which snapshots a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// Of that volume only; empty: of all.
    pub source_volume_id: &'w str,
    /// That one only; empty: all.
    pub snapshot_id: &'w str,
}

impl Node {
    /// Those that are wanted, from where the request asks on.
    pub async fn list_snapshots<'t>(
        &self,
        wanted: Wanted<'_>,
        asked: PageRequest<'t>,
    ) -> Result<impl Iterator<Item = VolumeSnapshot> + use<'t>> {
        let named = |id: &str| (!id.is_empty()).then(|| self.logical_name(id));
        let (one, source) = (named(wanted.snapshot_id), named(wanted.source_volume_id));
        let is_named = |named: &Option<Option<String>>, name: &str| {
            named.as_ref().is_none_or(|named| named.as_deref() == Some(name))
        };
        let view = self.groups.read().await?;
        Ok(VolumeSnapshot::all(&view).filter(move |snapshot| {
            is_named(&one, &snapshot.logical.name)
                && is_named(&source, &snapshot.tags.source)
                && asked.takes(&snapshot.logical)
        }))
    }

    /// The one with that id.
    pub async fn get_snapshot(&self, snapshot_id: &str) -> Result<VolumeSnapshot> {
        let unknown = || Error::NotFound { what: format!("snapshot {snapshot_id:?}") };
        self.snapshot(&self.logical_name(snapshot_id).ok_or_else(unknown)?).await
    }
}
