//! Lists: what is on this node, in the order of the names, page by page.

use std::sync::Arc;

use prost::Message;

use crate::csi::page::{fitting, most, start};
use crate::error::Result;
use crate::lvm::model::LogicalVolume;
use crate::node::Node;
use crate::node::volume::Volume;

/// Begins every token, so that one that was not given out here is told apart.
const TOKEN_PREFIX: &str = "after:";

/// Most that one request looks at, whatever it asks for.
pub const AT_ONCE: usize = 10_000;

/// What of a list a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<'t> {
    /// How many it looks at, at most.
    pub most: usize,
    after: Option<&'t str>,
}

impl<'t> PageRequest<'t> {
    /// What these fields of a request say, where it may look at no more than so many.
    pub fn parse(max_entries: i32, starting_token: &'t str, at_once: usize) -> Result<Self> {
        let most = match most(max_entries)? {
            0 => at_once,
            most => most.min(at_once),
        };
        let after = start(starting_token, |token| token.strip_prefix(TOKEN_PREFIX).filter(|name| !name.is_empty()))?;
        Ok(Self { most, after })
    }

    /// Whether no earlier page held it. The token is the last name, not a number, so it stays right when volumes come and go
    /// meanwhile.
    pub fn takes(&self, logical: &LogicalVolume) -> bool {
        self.after.is_none_or(|after| logical.name.as_str() > after)
    }

    /// Those of these volumes that exist for a caller, from where it asks on: those being deleted are gone for it already.
    pub(super) fn volumes(self, all: Vec<Volume>) -> impl Iterator<Item = Volume> + use<'t> {
        all.into_iter().filter(move |volume| volume.tags.deleting.is_none() && self.takes(&volume.logical))
    }
}

impl Node {
    /// The volumes that a request asks for.
    pub async fn list<'t>(&self, asked: PageRequest<'t>) -> Result<impl Iterator<Item = Volume> + use<'t>> {
        Ok(asked.volumes(Volume::all(&*self.groups.read().await?)))
    }
}

/// The token of the page after what was looked at last, if there is more.
pub(super) fn next_token<T>(last: Option<&Arc<LogicalVolume>>, mut rest: impl Iterator<Item = T>) -> String {
    match (last, rest.next()) {
        (Some(last), Some(_)) => token_after(last),
        _ => String::new(),
    }
}

fn token_after(logical: &LogicalVolume) -> String {
    format!("{TOKEN_PREFIX}{}", logical.name)
}

/// As many entries as one answer holds, and the token of the next page. `listed` is what they are of, in the order of the names;
/// `next_token` that of the page after what was looked at.
pub(super) fn answerable<E: Message>(
    listed: &[Arc<LogicalVolume>],
    mut entries: Vec<E>,
    next_token: String,
) -> (Vec<E>, String) {
    let fitting = fitting(&entries);
    if fitting == entries.len() {
        return (entries, next_token);
    }
    entries.truncate(fitting);
    (entries, token_after(&listed[fitting - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::page::{LIMIT, bytes};
    use crate::csi::v1;
    use crate::csi::v1::list_volumes_response::Entry;
    use crate::lvm::model::sample;
    use crate::lvm::tags::VolumeTags;

    fn volumes(count: usize) -> Vec<Volume> {
        let (group, tags) = (Arc::new(sample::group("vg", &[(1, 0)])), VolumeTags::default());
        let volume = |number: usize| {
            let logical = Arc::new(sample::volume(&format!("pvc-{number:036}"), 1));
            Volume { group: Arc::clone(&group), logical, tags: tags.clone() }
        };
        (0..count).map(volume).collect()
    }

    fn entry(volume: &Volume) -> Entry {
        let volume_id = format!("worker-1/{}", volume.logical.name);
        Entry { volume: Some(v1::Volume { volume_id, ..v1::Volume::default() }), status: None }
    }

    /// As the service does it.
    fn page(all: &[Volume], asked: PageRequest<'_>) -> (Vec<Entry>, String) {
        let mut rest = all.iter().filter(|volume| asked.takes(&volume.logical));
        let (mut listed, mut entries) = (Vec::new(), Vec::new());
        for volume in rest.by_ref().take(asked.most) {
            entries.push(entry(volume));
            listed.push(Arc::clone(&volume.logical));
        }
        answerable(&listed, entries, next_token(listed.last(), rest))
    }

    #[test]
    fn a_list_of_many_comes_in_pages_that_callers_take_and_each_volume_once() {
        let all = volumes(100_000);
        for max_entries in [0, 90_000] {
            let (mut token, mut found) = (String::new(), Vec::new());
            loop {
                // A page may be larger than the service would look at.
                let (entries, next) = page(&all, PageRequest::parse(max_entries, &token, 50_000).unwrap());
                assert!(!entries.is_empty() && bytes(&entries) <= LIMIT);
                found.extend(entries);
                if next.is_empty() {
                    break;
                }
                token = next;
            }
            assert!(found.into_iter().eq(all.iter().map(entry)), "{max_entries}");
        }
    }

    #[test]
    fn no_request_looks_at_more_than_it_may() {
        let all = volumes(5);
        for (max_entries, count) in [(0, 3), (4, 3), (2, 2)] {
            let (entries, next) = page(&all, PageRequest::parse(max_entries, "", 3).unwrap());
            assert_eq!((entries.len(), next), (count, token_after(&all[count - 1].logical)));
        }
        assert_eq!(page(&all, PageRequest::parse(5, "", 5).unwrap()).1, "");
    }
}
