//! Lists of all nodes, page by page.
//!
//! A node that cannot be reached makes the whole list fail: callers take what is not in a list for gone.

use std::future::Future;

use futures_util::{StreamExt, stream};
use tonic::Status;

use super::router::{AT_ONCE, Router};
use crate::error::{Error, Result};

/// Begins every token: `at:NODE/TOKEN`, the token being the node's own, empty for its first page.
const TOKEN_PREFIX: &str = "at:";

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<E> {
    /// Its entries.
    pub entries: Vec<E>,
    /// Where the next page starts; empty at the end.
    pub next_token: String,
}

/// The page of all nodes' lists that a request asks for. `ask` brings a page of one node: how many entries, from which
/// token on.
pub async fn page<E, F>(
    router: &Router,
    max_entries: i32,
    starting_token: &str,
    ask: impl Fn(String, i32, String) -> F,
) -> Result<Page<E>, Status>
where
    F: Future<Output = Result<Page<E>, Status>>,
{
    let most = usize::try_from(max_entries)
        .map_err(|_| Error::invalid("max_entries", format!("{max_entries} is negative; 0 means all")))?;
    let (first, mut token) = start(starting_token)?;
    let mut nodes = router.nodes()?;
    nodes.retain(|node| node.as_str() >= first);
    if nodes.first().is_none_or(|node| node != first) {
        // The node of the token is gone, and its volumes with it.
        token = String::new();
    }
    let mut page = Page { entries: Vec::new(), next_token: String::new() };
    if most == 0 {
        let asking = nodes.into_iter().map(|node| ask(node, 0, std::mem::take(&mut token)));
        let mut answers = stream::iter(asking).buffered(AT_ONCE);
        while let Some(of_node) = answers.next().await {
            page.entries.extend(of_node?.entries);
        }
        return Ok(page);
    }
    let mut nodes = nodes.into_iter();
    while let Some(node) = nodes.next() {
        let left = i32::try_from(most - page.entries.len()).unwrap_or(i32::MAX);
        let of_node = ask(node.clone(), left, std::mem::take(&mut token)).await?;
        page.entries.extend(of_node.entries);
        if !of_node.next_token.is_empty() {
            page.next_token = format!("{TOKEN_PREFIX}{node}/{}", of_node.next_token);
            break;
        }
        if page.entries.len() >= most {
            page.next_token = nodes.next().map(|next| format!("{TOKEN_PREFIX}{next}/")).unwrap_or_default();
            break;
        }
    }
    Ok(page)
}

/// The node and its own token at which a page starts.
fn start(token: &str) -> Result<(&str, String)> {
    if token.is_empty() {
        return Ok(("", String::new()));
    }
    let parts = token.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split_once('/'));
    let (node, inner) = parts.ok_or_else(|| Error::InvalidToken { token: token.to_owned() })?;
    Ok((node, inner.to_owned()))
}
