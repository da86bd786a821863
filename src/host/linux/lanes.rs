//! Reads of devices and questions to them, each device in a lane of its own, so that one that hangs holds up no other.
//!
//! A call that hangs in the kernel can be neither ended nor forgotten: its thread stays. So a lane has few
//! places, and while a call in it is overdue further ones fail at once instead of taking more threads.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc};

use super::super::kernel::Stretch;
use super::block;

/// How many calls run at the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// Of one device.
    pub(super) each: usize,
    /// Of all devices. A dead disk has a lane for each volume on it.
    pub(super) all: usize,
}

/// The lanes of all devices, by what names them: a path or a UUID.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    limit: Duration,
    places: usize,
    all: Arc<Semaphore>,
    by_device: Arc<Mutex<HashMap<PathBuf, Arc<Lane>>>>,
}

#[derive(Debug)]
struct Lane {
    places: Arc<Semaphore>,
    running: Mutex<Running>,
}

/// When the calls started that have not ended.
#[derive(Debug, Default)]
struct Running {
    next: u64,
    started: BTreeMap<u64, Instant>,
}

/// One running call; ends it in the lane's books when dropped.
struct Entry {
    lane: Arc<Lane>,
    key: u64,
}

impl Entry {
    fn new(lane: Arc<Lane>) -> Self {
        let mut running = lane.running.lock().unwrap_or_else(PoisonError::into_inner);
        let key = running.next;
        running.next += 1;
        running.started.insert(key, Instant::now());
        drop(running);
        Self { lane, key }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.lane.running.lock().unwrap_or_else(PoisonError::into_inner).started.remove(&self.key);
    }
}

impl Lane {
    /// How long the oldest call has been running.
    fn oldest(&self) -> Duration {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.started.first_key_value().map_or(Duration::ZERO, |(_, started)| started.elapsed())
    }
}

/// Stretches of one device, with their places among all that were asked for.
type Batch = Vec<(usize, Stretch)>;
type Piece = (usize, io::Result<Vec<u8>>);

impl Lanes {
    /// Calls that take longer than `limit` are given up.
    pub(super) fn new(limit: Duration, places: Places) -> Self {
        Self { limit, places: places.each, all: Arc::new(Semaphore::new(places.all)), by_device: Arc::default() }
    }

    /// Asks a device something.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        device: &str,
        question: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let lane = self.lane(Path::new(device));
        let permits = lane.enter(&self.all, self.limit).await?;
        // Entered before anybody waits for the answer, so that who waits in vain leaves it overdue.
        let entry = Entry::new(lane);
        let asking = tokio::task::spawn_blocking(move || {
            let _held = (permits, entry);
            question()
        });
        let answer = tokio::time::timeout(self.limit, asking).await.map_err(|_| too_late(self.limit))?;
        answer.unwrap_or_else(|failure| Err(io::Error::other(failure)))
    }

    /// Reads all stretches, the devices side by side; answers in the order of the stretches.
    pub(super) async fn read(&self, stretches: Vec<Stretch>) -> Vec<io::Result<Vec<u8>>> {
        let mut pieces: Vec<Option<io::Result<Vec<u8>>>> = stretches.iter().map(|_| None).collect();
        let mut batches: HashMap<PathBuf, Batch> = HashMap::new();
        for (place, stretch) in stretches.into_iter().enumerate() {
            batches.entry(stretch.device.clone()).or_default().push((place, stretch));
        }
        // Not as tasks of their own: each has its thread already, and mostly there is only one.
        let reads = batches.into_iter().map(|(device, batch)| {
            let lane = self.lane(&device);
            lane.read(batch, Arc::clone(&self.all), self.limit)
        });
        for (place, result) in join_all(reads).await.into_iter().flatten() {
            pieces[place] = Some(result);
        }
        pieces
            .into_iter()
            .map(|piece| piece.unwrap_or_else(|| Err(io::Error::other("the read was given up"))))
            .collect()
    }

    fn lane(&self, device: &Path) -> Arc<Lane> {
        let mut lanes = self.by_device.lock().unwrap_or_else(PoisonError::into_inner);
        // A lane that nobody but the table knows is idle.
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        let new = || Arc::new(Lane { places: Arc::new(Semaphore::new(self.places)), running: Mutex::default() });
        Arc::clone(lanes.entry(device.to_owned()).or_insert_with(new))
    }
}

/// A place in a lane, and among all.
type Permits = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Lane {
    /// Waits for a place, but not longer than the limit, and not behind a call that is overdue.
    async fn enter(&self, all: &Arc<Semaphore>, limit: Duration) -> io::Result<Permits> {
        let oldest = self.oldest();
        if oldest > limit {
            return Err(timed_out(&format!("an earlier call to this device has hung for {} s", oldest.as_secs())));
        }
        // Mostly there are places, and then nobody need ask the clock.
        let now = (Arc::clone(&self.places).try_acquire_owned(), Arc::clone(all).try_acquire_owned());
        if let (Ok(place), Ok(of_all)) = now {
            return Ok((place, of_all));
        }
        let places = async {
            let place = Arc::clone(&self.places).acquire_owned().await?;
            Ok::<_, AcquireError>((place, Arc::clone(all).acquire_owned().await?))
        };
        match tokio::time::timeout(limit, places).await {
            Ok(places) => places.map_err(io::Error::other),
            Err(_) => Err(too_late(limit)),
        }
    }

    async fn read(self: Arc<Self>, batch: Batch, all: Arc<Semaphore>, limit: Duration) -> Vec<Piece> {
        let mut missing: Vec<usize> = batch.iter().map(|(place, _)| *place).collect();
        let refuse = |missing: Vec<usize>, error: &io::Error| {
            let refused = |place| (place, Err(io::Error::new(error.kind(), error.to_string())));
            missing.into_iter().map(refused).collect::<Vec<Piece>>()
        };
        let permits = match self.enter(&all, limit).await {
            Ok(permits) => permits,
            Err(error) => return refuse(missing, &error),
        };
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut entry = Entry::new(Arc::clone(&self));
        tokio::task::spawn_blocking(move || {
            for (place, stretch) in batch {
                let result = block::read(&stretch);
                entry = Entry::new(Arc::clone(&self));
                if sender.send((place, result)).is_err() {
                    break;
                }
            }
            drop((permits, entry));
        });
        let mut pieces = Vec::with_capacity(missing.len());
        while !missing.is_empty()
            && let Ok(Some(piece)) = tokio::time::timeout(limit, receiver.recv()).await
        {
            missing.retain(|place| *place != piece.0);
            pieces.push(piece);
        }
        pieces.extend(refuse(missing, &too_late(limit)));
        pieces
    }
}

fn too_late(limit: Duration) -> io::Error {
    timed_out(&format!("the device did not answer within {} ms", limit.as_millis()))
}

fn timed_out(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, problem.to_owned())
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
