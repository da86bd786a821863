//! Lists of all nodes, page by page.
//!
//! A node that cannot be reached makes the whole list fail: callers take what is not in a list for gone.

use std::future::Future;

use futures_util::{StreamExt, stream};
use prost::Message;
use tonic::Status;

use super::router::AT_ONCE;
use crate::csi::page::{LIMIT, bytes, most, start};

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

/// The page of these nodes' lists that a request asks for. `ask` brings a page of one node: how many entries, from which
/// token on.
pub async fn page<E, F>(
    mut nodes: Vec<String>,
    max_entries: i32,
    starting_token: &str,
    ask: impl Fn(String, i32, String) -> F,
) -> Result<Page<E>, Status>
where
    E: Message,
    F: Future<Output = Result<Page<E>, Status>>,
{
    let most = most(max_entries)?;
    let start = start(starting_token, |token| token.strip_prefix(TOKEN_PREFIX)?.split_once('/'))?;
    let (first, mut token) = start.map(|(node, token)| (node, token.to_owned())).unwrap_or_default();
    nodes.retain(|node| node.as_str() >= first);
    if nodes.first().is_none_or(|node| node != first) {
        // The node of the token is gone, and its volumes with it.
        token = String::new();
    }
    let mut page = Page { entries: Vec::new(), next_token: String::new() };
    let mut size = 0;
    let mut asked = nodes.into_iter().map(|node| (node, std::mem::take(&mut token)));
    if most == 0 {
        let asking = asked.map(|(node, token)| async {
            let of_node = ask(node.clone(), 0, token.clone()).await;
            (node, token, of_node)
        });
        let mut answers = stream::iter(asking).buffered(AT_ONCE);
        while let Some((node, token, of_node)) = answers.next().await {
            if !page.takes(&mut size, &node, &token, of_node?) {
                break;
            }
        }
        return Ok(page);
    }
    while let Some((node, token)) = asked.next() {
        let left = i32::try_from(most - page.entries.len()).unwrap_or(i32::MAX);
        let of_node = ask(node.clone(), left, token.clone()).await?;
        if !page.takes(&mut size, &node, &token, of_node) {
            break;
        }
        if page.entries.len() >= most {
            page.next_token = asked.next().map(|(next, token)| token_at(&next, &token)).unwrap_or_default();
            break;
        }
    }
    Ok(page)
}

impl<E: Message> Page<E> {
    /// Takes a page of a node, asked for with that token, and says whether that of the next node belongs here, too.
    /// `size` is that of the entries so far, in bytes; to measure them anew for each of thousands of nodes takes longer
    /// than to ask the nodes.
    fn takes(&mut self, size: &mut usize, node: &str, token: &str, of_node: Self) -> bool {
        *size += bytes(&of_node.entries);
        if *size > LIMIT && !self.entries.is_empty() {
            // It is asked for again: only the node could divide its page.
            self.next_token = token_at(node, token);
            return false;
        }
        self.entries.extend(of_node.entries);
        if of_node.next_token.is_empty() {
            return true;
        }
        self.next_token = token_at(node, &of_node.next_token);
        false
    }
}

fn token_at(node: &str, token: &str) -> String {
    format!("{TOKEN_PREFIX}{node}/{token}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::csi::v1::VolumeHealth;

    fn entry(node: &str, number: usize) -> VolumeHealth {
        VolumeHealth { volume_id: format!("{node}/pvc-{number:060}"), health_statuses: Vec::new() }
    }

    /// A node's page of so many volumes: what is asked for, but no more than a node answers at once. Its token is a
    /// number.
    fn of_node(node: &str, count: usize, max_entries: i32, token: &str) -> Page<VolumeHealth> {
        let first = token.parse().unwrap_or(0);
        let asked = usize::try_from(max_entries).unwrap();
        let most = if asked == 0 { 20_000 } else { asked.min(20_000) };
        let end = count.min(first + most);
        let next_token = if end < count { end.to_string() } else { String::new() };
        Page { entries: (first..end).map(|number| entry(node, number)).collect(), next_token }
    }

    #[tokio::test]
    async fn many_volumes_come_in_pages_that_callers_take_and_each_once() {
        let counts: BTreeMap<String, usize> = [("a", 100_000), ("b", 0), ("c", 3), ("d", 15_000), ("e", 20_000)]
            .map(|(node, count)| (node.to_owned(), count))
            .into();
        let all: Vec<_> =
            counts.iter().flat_map(|(node, count)| (0..*count).map(|number| entry(node, number))).collect();
        for max_entries in [0, 7_000, 100_000] {
            let (mut token, mut found) = (String::new(), Vec::new());
            loop {
                let ask = |node: String, most, token: String| {
                    let of_node = of_node(&node, counts[&node], most, &token);
                    async move { Ok(of_node) }
                };
                let page = page(counts.keys().cloned().collect(), max_entries, &token, ask).await.unwrap();
                assert!(!page.entries.is_empty() && bytes(&page.entries) <= LIMIT);
                assert!(max_entries == 0 || page.entries.len() <= usize::try_from(max_entries).unwrap());
                found.extend(page.entries);
                if page.next_token.is_empty() {
                    break;
                }
                token = page.next_token;
            }
            assert!(found == all, "{max_entries} at a time: {} of {}", found.len(), all.len());
        }
    }
}
