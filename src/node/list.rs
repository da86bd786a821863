//! `ListVolumes`: what is on this node, in the order of the names, page by page.

use crate::error::{Error, Result};
use crate::node::Node;
use crate::node::volume::Volume;

/// Begins every token, so that one that was not given out here is told apart.
const TOKEN_PREFIX: &str = "after:";

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
        Page::of(Volume::all(&*self.groups.read().await?), max_entries, starting_token)
    }
}

impl Page {
    /// The page that a request asks for.
    pub(super) fn of(volumes: Vec<Volume>, max_entries: i32, starting_token: &str) -> Result<Self> {
        let most = usize::try_from(max_entries)
            .map_err(|_| Error::invalid("max_entries", format!("{max_entries} is negative; 0 means all")))?;
        let after = match starting_token {
            "" => None,
            token => Some(
                token
                    .strip_prefix(TOKEN_PREFIX)
                    .filter(|name| !name.is_empty())
                    .ok_or_else(|| Error::InvalidToken { token: token.to_owned() })?,
            ),
        };
        Ok(page(volumes, most, after))
    }
}

/// The token is the last name, not a number, so it stays right when volumes come and go meanwhile.
fn page(mut volumes: Vec<Volume>, most: usize, after: Option<&str>) -> Page {
    volumes.sort_by(|one, other| one.logical.name.cmp(&other.logical.name));
    let mut rest = volumes.into_iter().filter(|volume| {
        volume.tags.deleting.is_none() && after.is_none_or(|after| volume.logical.name.as_str() > after)
    });
    let volumes: Vec<Volume> = if most == 0 { rest.by_ref().collect() } else { rest.by_ref().take(most).collect() };
    let next_token = match (rest.next(), volumes.last()) {
        (Some(_), Some(last)) => format!("{TOKEN_PREFIX}{}", last.logical.name),
        _ => String::new(),
    };
    Page { volumes, next_token }
}
