//! The store of a thick snapshot as the kernel has it: what its origin held where it was overwritten since.

use std::collections::BTreeMap;

use crate::disk_format::EXTENT;

/// Bytes in which it keeps.
pub const PIECE: usize = 4096;
/// Pieces of the store in which it keeps its books.
const BOOKS: usize = 2;

/// Extents of a store that can never be full, of an origin of so many. lvm gives no more.
pub fn most(origin: usize) -> usize {
    let pieces = origin * EXTENT / PIECE;
    ((pieces + pieces / (PIECE / 16) + BOOKS) * PIECE).div_ceil(EXTENT)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// Piece of the origin, piece of the store.
    kept: BTreeMap<usize, usize>,
    /// Whether there was no room left once.
    pub is_lost: bool,
}

impl Store {
    /// Where a piece of the origin is kept; `None` as long as it was not overwritten.
    pub fn at(&self, piece: usize) -> Option<usize> {
        self.kept.get(&piece).copied()
    }

    /// A place for a piece that is about to be overwritten, in a store of so many pieces; `None` when it has one, or when
    /// all is lost.
    pub fn keep(&mut self, piece: usize, total: usize) -> Option<usize> {
        if self.is_lost || self.kept.contains_key(&piece) {
            return None;
        }
        let at = BOOKS + self.kept.len();
        self.is_lost = at >= total;
        (!self.is_lost).then(|| {
            self.kept.insert(piece, at);
            at
        })
    }

    /// Pieces in use.
    pub fn used(&self) -> usize {
        BOOKS + self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_is_kept_once_until_there_is_no_room() {
        let mut store = Store::default();
        assert_eq!([store.keep(7, 4), store.keep(7, 4), store.keep(1, 4)], [Some(2), None, Some(3)]);
        assert_eq!((store.at(7), store.at(2), store.used()), (Some(2), None, 4));
        assert_eq!((store.keep(3, 4), store.is_lost), (None, true));
    }
}
