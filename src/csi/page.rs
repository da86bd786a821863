//! Pages of a list: what a request asks for, and how much one answer holds. Go's gRPC, in which the sidecars are written,
//! takes no answer above 4 MiB by default; so a page ends early where it would be large, also where the request sets no
//! limit (CSI specification, `ListVolumes`: a caller goes on as long as there is a `next_token`).

use prost::Message;

use crate::error::{Error, Result};

/// Bytes of the entries of one answer.
pub const LIMIT: usize = 2 << 20;

/// Bytes before each entry in the message: its field, and its length.
const FRAME: usize = 6;

/// The bytes that entries take in an answer.
pub fn bytes<E: Message>(entries: &[E]) -> usize {
    entries.iter().map(|entry| entry.encoded_len() + FRAME).sum()
}

/// How many of the entries, from the first on, one answer holds; one at least, so that a caller gets on.
pub fn fitting<E: Message>(entries: &[E]) -> usize {
    let mut left = LIMIT;
    let fits = |entry: &&E| {
        let rest = left.checked_sub(entry.encoded_len() + FRAME);
        left = rest.unwrap_or_default();
        rest.is_some()
    };
    entries.iter().take_while(fits).count().max(1).min(entries.len())
}

/// How many entries a request wants at most; 0 means all.
pub fn most(max_entries: i32) -> Result<usize> {
    usize::try_from(max_entries)
        .map_err(|_| Error::invalid("max_entries", format!("{max_entries} is negative; 0 means all")))
}

/// Where a request wants its page to start, `None` at the start of the list. What `read` does not know was not given out
/// by us.
pub fn start<'t, T>(token: &'t str, read: impl FnOnce(&'t str) -> Option<T>) -> Result<Option<T>> {
    if token.is_empty() {
        return Ok(None);
    }
    read(token).map(Some).ok_or_else(|| Error::InvalidToken { token: token.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::v1::{ListVolumesResponse, Volume, list_volumes_response::Entry};

    fn entry(bytes: usize) -> Entry {
        Entry { volume: Some(Volume { volume_id: "x".repeat(bytes), ..Volume::default() }), status: None }
    }

    #[test]
    fn what_fits_stays_below_the_limit_and_one_more_does_not() {
        let entries: Vec<Entry> = (0..100_000).map(|number| entry(number % 300)).collect();
        let fitting = fitting(&entries);
        let answer = ListVolumesResponse { entries: entries[..fitting].to_vec(), ..Default::default() };
        assert!(answer.encoded_len() <= bytes(&answer.entries) && bytes(&answer.entries) <= LIMIT);
        assert!(bytes(&entries[..=fitting]) > LIMIT);
    }

    #[test]
    fn one_is_always_answered_if_there_is_one() {
        assert_eq!(fitting::<Entry>(&[]), 0);
        assert_eq!(fitting(&[entry(LIMIT), entry(1)]), 1);
    }

    #[test]
    fn a_request_for_less_than_nothing_or_from_nowhere_is_refused() {
        assert_eq!((most(0).unwrap(), most(7).unwrap()), (0, 7));
        assert!(matches!(most(-1), Err(Error::InvalidArgument { .. })));
        let read = |token: &'static str| start(token, |token| token.strip_prefix("after:"));
        assert_eq!((read("").unwrap(), read("after:a").unwrap()), (None, Some("a")));
        assert!(matches!(read("before:a"), Err(Error::InvalidToken { .. })));
    }
}
