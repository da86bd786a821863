//! Flow control of a channel. Both ends count what they sent and what the other one reports as read, and never have more
//! under way than the serial port in between is known to carry.

use std::io::{self, Read, Write};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::channel::locked;
use crate::frame::encode;

/// What one end has sent and the other has not reported as read.
#[derive(Debug)]
pub(crate) struct Window {
    size: usize,
    under_way: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Window {
    pub(crate) fn new(size: usize) -> Self {
        Self { size, under_way: Mutex::new(Some(0)), changed: Condvar::new() }
    }

    /// Takes room for a message; false when there was none within the limit or the channel is closed.
    pub(crate) fn take(&self, length: usize, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut under_way = locked(&self.under_way);
        loop {
            let Some(sum) = *under_way else { return false };
            // A message alone on its way may be of any size.
            if sum == 0 || sum + length <= self.size {
                *under_way = Some(sum + length);
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            under_way = self.changed.wait_timeout(under_way, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Counts a short message that must not wait.
    pub(crate) fn force(&self, length: usize) {
        if let Some(sum) = locked(&self.under_way).as_mut() {
            *sum += length;
        }
    }

    pub(crate) fn release(&self, length: usize) {
        if let Some(sum) = locked(&self.under_way).as_mut() {
            *sum = sum.saturating_sub(length);
        }
        self.changed.notify_all();
    }

    /// Nobody reads any more: nobody needs to wait.
    pub(crate) fn close(&self) {
        *locked(&self.under_way) = None;
        self.changed.notify_all();
    }
}

/// One end's writing half, shared by threads; messages are written whole.
#[derive(Debug)]
pub(crate) struct Outlet<W> {
    pub(crate) writer: Mutex<W>,
    pub(crate) window: Window,
}

impl<W: Write> Outlet<W> {
    pub(crate) fn new(writer: W, window: usize) -> Self {
        Self { writer: Mutex::new(writer), window: Window::new(window) }
    }

    /// Sends a message when there is room for it.
    pub(crate) fn send(&self, line: &[u8], limit: Duration) -> Result<()> {
        ensure!(self.window.take(line.len(), limit), "the other end took nothing for {limit:?} or is gone");
        locked(&self.writer).write_all(line).context("the other end is gone")
    }

    /// Sends a short message that must not wait for room: the reading half sends it, on which the room depends.
    pub(crate) fn force<T: Serialize>(&self, message: &T) -> Result<()> {
        let line = encode(message)?;
        self.window.force(line.len());
        locked(&self.writer).write_all(&line).context("the other end is gone")
    }
}

/// A reader that tells the other end how much it read, in portions.
pub(crate) struct Reported<R, F> {
    input: R,
    report: F,
    portion: usize,
    unreported: usize,
}

impl<R: Read, F: Fn(usize)> Reported<R, F> {
    pub(crate) fn new(input: R, window: usize, report: F) -> Self {
        Self { input, report, portion: window / 4, unreported: 0 }
    }
}

impl<R: Read, F: Fn(usize)> Read for Reported<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.unreported += length;
        if self.unreported >= self.portion {
            (self.report)(std::mem::take(&mut self.unreported));
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_holds_a_message_back_until_room_is_reported() {
        let window = Window::new(10);
        assert!(window.take(8, Duration::ZERO));
        assert!(!window.take(3, Duration::ZERO));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| window.take(3, Duration::from_secs(5)));
            window.release(4);
            assert!(waiting.join().unwrap());
        });
        window.close();
        assert!(!window.take(1, Duration::from_secs(5)));
    }

    #[test]
    fn what_is_read_is_reported_in_portions() {
        let reports = Mutex::new(Vec::new());
        let mut reader = Reported::new(&[0; 100][..], 120, |bytes| locked(&reports).push(bytes));
        for _ in 0..10 {
            reader.read_exact(&mut [0; 10]).unwrap();
        }
        assert_eq!(*locked(&reports), [30, 30, 30]);
    }
}
