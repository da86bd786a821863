//! How many clients may be showing who they are at a time: some in all, and few from one address, so that nobody can keep
//! the controller out by beginning and not going on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In all.
const ALL: usize = 64;
/// From one address. A controller makes one connection at a time.
const FROM_ONE: usize = 8;

/// How many places those of an address have.
type BySource = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The places.
#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    by_source: BySource,
}

/// A place for whoever comes next.
pub(super) struct Free {
    permit: OwnedSemaphorePermit,
    by_source: BySource,
}

/// A place that somebody has; free again when it is dropped.
pub(super) struct Taken {
    _permit: OwnedSemaphorePermit,
    by_source: BySource,
    source: IpAddr,
}

impl Places {
    /// All free.
    pub(super) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(ALL)), by_source: Arc::default() }
    }

    /// Waits for one.
    pub(super) async fn free(&self) -> Option<Free> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(Free { permit, by_source: Arc::clone(&self.by_source) })
    }
}

impl Free {
    /// Gives it to a client of that address; none if those from there have as many as they may.
    pub(super) fn take(self, source: IpAddr) -> Option<Taken> {
        let mut taken = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(source).or_default();
        if *count >= FROM_ONE {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Taken { _permit: self.permit, by_source: self.by_source, source })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_address_gets_few_places_and_all_together_get_some() {
        let places = Places::new();
        let source = |number: usize| IpAddr::from([10, 0, 0, u8::try_from(number).unwrap()]);
        let mut taken = Vec::new();
        for number in 0..ALL / FROM_ONE {
            for _ in 0..FROM_ONE {
                taken.push(places.free().await.unwrap().take(source(number)).unwrap());
            }
            if let Some(free) = places.free().now_or_never() {
                assert!(free.unwrap().take(source(number)).is_none());
            }
        }
        assert!(places.free().now_or_never().is_none());
        taken.pop();
        assert!(places.free().await.unwrap().take(source(0)).is_none());
        assert!(places.free().await.unwrap().take(source(99)).is_some());
        taken.clear();
        assert!(places.by_source.lock().unwrap().is_empty(), "who left is still remembered");
    }
}
