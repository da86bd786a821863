//! A thin pool as the kernel has it: which pieces of its data each of its devices shows. What is not committed is lost with
//! the power; a flush of a device commits, and so does every message.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    now: State,
    committed: State,
    /// Whether its own device is active, and not only those of its volumes.
    pub is_kept_active: bool,
    /// Whether a power cut left pieces that are in use, but no device's, of which lvm's check complains.
    pub has_leaks: bool,
    /// What its table says that it has, which may be less than lvm gave it: extents of data and of metadata.
    pub loaded: (usize, usize),
    /// Blocks of its metadata in use, beside the first.
    pub used_metadata: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    transaction_id: u64,
    /// By number: piece of the device, piece of the pool's data.
    devices: BTreeMap<u64, BTreeMap<usize, usize>>,
}

/// A piece that may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provided {
    /// The piece of the data.
    pub at: usize,
    pub content: Content,
}

/// What must be put into a piece before it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// It is the device's own already.
    There,
    /// What that piece holds, which is another device's, too.
    CopyOf(usize),
    /// Zeroes: somebody else's old data may be in it.
    Zeroes,
}

impl Pool {
    /// A new one, which is active.
    pub fn new() -> Self {
        Self { is_kept_active: true, ..Self::default() }
    }

    pub fn transaction_id(&self) -> u64 {
        self.now.transaction_id
    }

    pub fn has(&self, device: u64) -> bool {
        self.now.devices.contains_key(&device)
    }

    pub fn devices(&self) -> impl Iterator<Item = u64> {
        self.now.devices.keys().copied()
    }

    /// Pieces of the data in use.
    pub fn used(&self) -> usize {
        self.now.pieces().len()
    }

    /// The message `create_thin`, or `create_snap` where there is an origin.
    pub fn create(&mut self, device: u64, origin: Option<u64>) {
        assert!(!self.has(device), "thin device {device} is made twice");
        let pieces = origin.map(|origin| self.now.devices[&origin].clone()).unwrap_or_default();
        self.now.devices.insert(device, pieces);
    }

    /// The message `delete`.
    pub fn delete(&mut self, device: u64) {
        self.now.devices.remove(&device).unwrap_or_else(|| panic!("thin device {device} is deleted, but not there"));
    }

    /// The message `set_transaction_id`, which is the last one; all of them are committed.
    pub fn end_transaction(&mut self, id: u64) {
        assert_eq!(self.now.transaction_id + 1, id, "the transaction ids of lvm and of the kernel do not match");
        self.now.transaction_id = id;
        self.commit();
    }

    /// As the power fails between the last message but one and `set_transaction_id`.
    pub fn uncount(&mut self) {
        self.now.transaction_id -= 1;
        self.commit();
    }

    pub fn commit(&mut self) {
        self.committed = self.now.clone();
    }

    pub fn lose_power(&mut self) {
        self.now = self.committed.clone();
        self.is_kept_active = false;
    }

    /// The piece of the data that a piece of a device is in; `None` where nothing was written, or where there is no device.
    pub fn at(&self, device: u64, piece: usize) -> Option<usize> {
        self.now.devices.get(&device)?.get(&piece).copied()
    }

    /// A piece of the data to write a piece of a device to; `None` when the pool, of so many pieces, is full.
    pub fn provide(&mut self, device: u64, piece: usize, total: usize) -> Option<Provided> {
        let before = self.at(device, piece);
        if let Some(at) = before.filter(|at| self.is_of_one(*at)) {
            return Some(Provided { at, content: Content::There });
        }
        // What was given back is not given out before that is committed.
        let (now, committed) = (self.now.pieces(), self.committed.pieces());
        let at = (0..total).find(|at| !now.contains(at) && !committed.contains(at))?;
        self.now.devices.get_mut(&device).unwrap().insert(piece, at);
        Some(Provided { at, content: before.map_or(Content::Zeroes, Content::CopyOf) })
    }

    pub fn discard(&mut self, device: u64, pieces: Range<usize>) {
        self.now.devices.get_mut(&device).unwrap().retain(|piece, _| !pieces.contains(piece));
    }

    fn is_of_one(&self, at: usize) -> bool {
        self.now.devices.values().flat_map(BTreeMap::values).filter(|other| **other == at).count() == 1
    }
}

impl State {
    fn pieces(&self) -> BTreeSet<usize> {
        self.devices.values().flat_map(BTreeMap::values).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_keeps_what_its_origin_held() {
        let mut pool = Pool::default();
        pool.create(1, None);
        assert_eq!(pool.provide(1, 5, 2), Some(Provided { at: 0, content: Content::Zeroes }));
        assert_eq!(pool.provide(1, 5, 2), Some(Provided { at: 0, content: Content::There }));
        pool.create(2, Some(1));
        assert_eq!(pool.provide(1, 5, 2), Some(Provided { at: 1, content: Content::CopyOf(0) }));
        assert_eq!((pool.at(1, 5), pool.at(2, 5)), (Some(1), Some(0)));
        assert_eq!(pool.provide(1, 6, 2), None, "it is full");
    }

    #[test]
    fn what_is_not_committed_is_lost_and_what_is_given_back_waits_for_the_commit() {
        let mut pool = Pool::default();
        pool.create(1, None);
        pool.end_transaction(1);
        pool.provide(1, 0, 1);
        pool.lose_power();
        assert_eq!((pool.at(1, 0), pool.transaction_id()), (None, 1));
        pool.provide(1, 0, 1);
        pool.commit();
        pool.discard(1, 0..1);
        assert_eq!((pool.used(), pool.provide(1, 3, 1)), (0, None));
        pool.commit();
        assert!(pool.provide(1, 3, 1).is_some());
    }
}
