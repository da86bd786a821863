//! `ListVolumes`: what is on this node, in the order of the names, page by page.

use prost::Message;

use crate::csi::page::{fitting, most, start};
use crate::error::Result;
use crate::node::Node;
use crate::node::volume::Volume;

/// Begins every token, so that one that was not given out here is told apart.
const TOKEN_PREFIX: &str = "after:";

/// Most volumes that one request looks at, whatever it asks for.
const AT_ONCE: usize = 10_000;

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// The volumes of this page.
    pub volumes: Vec<Volume>,
    /// Where the next page starts; empty at the end.
    pub next_token: String,
}

impl Node {
    /// The volumes that exist for a caller: those being deleted are gone for it already.
    pub async fn list(&self, max_entries: i32, starting_token: &str) -> Result<Page> {
        Page::of(Volume::all(&*self.groups.read().await?), AT_ONCE, max_entries, starting_token)
    }
}

impl Page {
    /// The page that a request asks for, of so many volumes at most.
    pub(super) fn of(volumes: Vec<Volume>, at_once: usize, max_entries: i32, starting_token: &str) -> Result<Self> {
        let most = match most(max_entries)? {
            0 => at_once,
            most => most.min(at_once),
        };
        let after = start(starting_token, |token| token.strip_prefix(TOKEN_PREFIX).filter(|name| !name.is_empty()))?;
        Ok(page(volumes, most, after))
    }
}

/// The token is the last name, not a number, so it stays right when volumes come and go meanwhile.
fn page(mut volumes: Vec<Volume>, most: usize, after: Option<&str>) -> Page {
    volumes.sort_by(|one, other| one.logical.name.cmp(&other.logical.name));
    let mut rest = volumes.into_iter().filter(|volume| {
        volume.tags.deleting.is_none() && after.is_none_or(|after| volume.logical.name.as_str() > after)
    });
    let volumes: Vec<Volume> = rest.by_ref().take(most).collect();
    let next_token = match (rest.next(), volumes.last()) {
        (Some(_), Some(last)) => token_after(last),
        _ => String::new(),
    };
    Page { volumes, next_token }
}

fn token_after(volume: &Volume) -> String {
    format!("{TOKEN_PREFIX}{}", volume.logical.name)
}

/// As many entries, in the order of the names of their volumes, as one answer holds, and the token of the next page.
pub(super) fn answerable<E: Message>(entries: Vec<(Volume, E)>, next_token: String) -> (Vec<E>, String) {
    let (volumes, mut entries): (Vec<Volume>, Vec<E>) = entries.into_iter().unzip();
    let fitting = fitting(&entries);
    if fitting == entries.len() {
        return (entries, next_token);
    }
    entries.truncate(fitting);
    (entries, token_after(&volumes[fitting - 1]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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

    #[test]
    fn a_list_of_many_comes_in_pages_that_callers_take_and_each_volume_once() {
        let all = volumes(100_000);
        for max_entries in [0, 90_000] {
            let (mut token, mut found) = (String::new(), Vec::new());
            loop {
                // As the service does it, but that a page may be larger than it would look at.
                let page = Page::of(all.clone(), 50_000, max_entries, &token).unwrap();
                let entries = page.volumes.into_iter().map(|volume| (volume.clone(), entry(&volume))).collect();
                let (entries, next) = answerable(entries, page.next_token);
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
            let page = Page::of(all.clone(), 3, max_entries, "").unwrap();
            assert_eq!(page.volumes.len(), count);
            assert_eq!(page.next_token, token_after(&all[count - 1]));
        }
    }
}
