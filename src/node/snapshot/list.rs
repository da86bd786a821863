//! `ListSnapshots` and `GetSnapshot`: what is on this node, in the order of the names, page by page.

use super::VolumeSnapshot;
use crate::csi::page::{most, start};
use crate::error::{Error, Result};
use crate::lvm::model::LogicalVolume;
use crate::node::Node;

/// Begins every token, so that one that was not given out here is told apart.
const TOKEN_PREFIX: &str = "snapshots-after:";
/// Most snapshots that one request looks at, whatever it asks for.
const AT_ONCE: usize = 10_000;

/// Which snapshots a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// Of that volume only; empty: of all.
    pub source_volume_id: &'w str,
    /// That one only; empty: all.
    pub snapshot_id: &'w str,
}

impl Node {
    /// Those that are asked for, from where the token says, and how many of them a page has at most.
    pub async fn list_snapshots<'r>(
        &self,
        wanted: Wanted<'_>,
        max_entries: i32,
        starting_token: &'r str,
    ) -> Result<(usize, impl Iterator<Item = VolumeSnapshot> + use<'r>)> {
        let most = match most(max_entries)? {
            0 => AT_ONCE,
            most => most.min(AT_ONCE),
        };
        let after = start(starting_token, |token| token.strip_prefix(TOKEN_PREFIX).filter(|name| !name.is_empty()))?;
        let named = |id: &str| (!id.is_empty()).then(|| self.logical_name(id));
        let (one, source) = (named(wanted.snapshot_id), named(wanted.source_volume_id));
        let is_named = |named: &Option<Option<String>>, name: &str| {
            named.as_ref().is_none_or(|named| named.as_deref() == Some(name))
        };
        let view = self.groups.read().await?;
        let rest = VolumeSnapshot::all(&view).filter(move |snapshot| {
            is_named(&one, &snapshot.logical.name)
                && is_named(&source, &snapshot.tags.source)
                && after.is_none_or(|after| snapshot.logical.name.as_str() > after)
        });
        Ok((most, rest))
    }

    /// The one with that id.
    pub async fn get_snapshot(&self, snapshot_id: &str) -> Result<VolumeSnapshot> {
        let unknown = || Error::NotFound { what: format!("snapshot {snapshot_id:?}") };
        self.snapshot(&self.logical_name(snapshot_id).ok_or_else(unknown)?).await
    }
}

/// The token of the page after the snapshot that is this logical volume.
pub(in crate::node) fn token_after(snapshot: &LogicalVolume) -> String {
    format!("{TOKEN_PREFIX}{}", snapshot.name)
}
