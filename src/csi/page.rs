//! How much of a list one answer holds. Go's gRPC, in which the sidecars are written, takes no answer above 4 MiB by
//! default; so a page ends early where it would be large, also where the request sets no limit (CSI specification,
//! `ListVolumes`: a caller goes on as long as there is a `next_token`).

use prost::Message;

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
}
