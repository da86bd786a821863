//! `ListSnapshots` and `GetSnapshot`: what is on this node, in the order of the names, page by page.

use super::VolumeSnapshot;
use crate::csi::page::{most, start};
use crate::error::{Error, Result};
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
    /// A page of those that are asked for, and the token of the next one.
    pub async fn list_snapshots(
        &self,
        wanted: Wanted<'_>,
        max_entries: i32,
        starting_token: &str,
    ) -> Result<(Vec<VolumeSnapshot>, String)> {
        let most = match most(max_entries)? {
            0 => AT_ONCE,
            most => most.min(AT_ONCE),
        };
        let after = start(starting_token, |token| token.strip_prefix(TOKEN_PREFIX).filter(|name| !name.is_empty()))?;
        let view = self.groups.read().await?;
        let is_named = |id: &str, name: &str| id.is_empty() || self.logical_name(id).is_some_and(|of_id| of_id == name);
        let mut rest = VolumeSnapshot::all(&view).into_iter().filter(|snapshot| {
            is_named(wanted.snapshot_id, &snapshot.logical.name)
                && is_named(wanted.source_volume_id, &snapshot.tags.source)
                && after.is_none_or(|after| snapshot.logical.name.as_str() > after)
        });
        let page: Vec<VolumeSnapshot> = rest.by_ref().take(most).collect();
        let next_token = match (rest.next(), page.last()) {
            (Some(_), Some(last)) => token_after(last),
            _ => String::new(),
        };
        Ok((page, next_token))
    }

    /// The one with that id.
    pub async fn get_snapshot(&self, snapshot_id: &str) -> Result<VolumeSnapshot> {
        let unknown = || Error::NotFound { what: format!("snapshot {snapshot_id:?}") };
        self.snapshot(&self.logical_name(snapshot_id).ok_or_else(unknown)?).await
    }
}

/// The token of the page after that snapshot.
pub(in crate::node) fn token_after(snapshot: &VolumeSnapshot) -> String {
    format!("{TOKEN_PREFIX}{}", snapshot.logical.name)
}
