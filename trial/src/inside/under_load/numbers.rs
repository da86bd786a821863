//! A writer that numbers its writes, so that a copy of its files says exactly up to which one it holds them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

/// Its files; the writes go to one after the other, so that it is seen when a later write came without an earlier one.
const FILES: [&str; 2] = ["even", "odd"];
/// Places of each file, which are written round and round.
const PLACES: u64 = 256;
/// Between two writes: the machine has one processor for all.
const REST: Duration = Duration::from_millis(2);
/// Bytes of a write.
const BLOCK: usize = 4096;

/// The writer.
pub(super) struct Numbers {
    begun: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Numbers {
    /// Makes its files in the folder and begins.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let make = |name: &&str| {
            let file = OpenOptions::new().create_new(true).write(true).open(folder.join(name))?;
            file.write_all_at(&vec![0; BLOCK * usize::try_from(PLACES).unwrap_or_default()], 0)?;
            file.sync_all()?;
            Ok(file)
        };
        let files: Vec<File> = FILES.iter().map(make).collect::<Result<_>>().context("the numbered files")?;
        File::open(folder)?.sync_all()?;
        let (begun, written, stop) = (Arc::default(), Arc::default(), Arc::default());
        let (to, done, end) = (Arc::<AtomicU64>::clone(&begun), Arc::<AtomicU64>::clone(&written), Arc::clone(&stop));
        let thread = std::thread::spawn(move || write(&files, &to, &done, &end));
        Ok(Self { begun, written, stop, thread })
    }

    /// The last write that is durable.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// The last write that has begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Ends it; all its writes went well. The last number.
    pub(super) fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the numbering writer panicked"))??;
        Ok(self.written.load(Ordering::SeqCst))
    }
}

fn write(files: &[File], begun: &AtomicU64, written: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let (file, place) = place(number);
        begun.store(number, Ordering::SeqCst);
        files[file].write_all_at(&block(number), place)?;
        files[file].sync_data()?;
        written.store(number, Ordering::SeqCst);
        std::thread::sleep(REST);
    }
    Ok(())
}

/// The file of a number, and where it stands there.
fn place(number: u64) -> (usize, u64) {
    let file = number % FILES.len() as u64;
    (usize::try_from(file).unwrap_or_default(), number / FILES.len() as u64 % PLACES * BLOCK as u64)
}

/// The number over and over, so that half of a write is seen.
fn block(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(BLOCK / 8)
}

/// The number up to which the folder holds all writes, and none beyond it.
pub(super) fn state(folder: &Path) -> Result<u64> {
    let mut found = Vec::new();
    for name in FILES {
        let bytes = std::fs::read(folder.join(name)).with_context(|| format!("cannot read {name}"))?;
        for (place, bytes) in bytes.chunks(BLOCK).enumerate() {
            let number = u64::from_le_bytes(*bytes.first_chunk().context("a file is cut off")?);
            ensure!(bytes == block(number), "place {place} of {name} holds no whole write");
            found.push(number);
        }
    }
    let last = found.iter().copied().max().unwrap_or_default();
    let held = FILES.len() as u64 * PLACES;
    let mut expected: Vec<u64> = (last.saturating_sub(held - 1).max(1)..=last).collect();
    // Nothing was written yet where the writer has not come round.
    expected.splice(0..0, std::iter::repeat_n(0, found.len().saturating_sub(expected.len())));
    found.sort_unstable();
    let missing: Vec<&u64> = expected.iter().filter(|number| found.binary_search(number).is_err()).take(5).collect();
    ensure!(found == expected, "write {last} is there, but not {missing:?} before it");
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(numbers: impl Iterator<Item = u64>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let files = FILES.map(|name| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_len(PLACES * BLOCK as u64).unwrap();
            file
        });
        for number in numbers {
            let (file, at) = place(number);
            files[file].write_all_at(&block(number), at).unwrap();
        }
        folder
    }

    #[test]
    fn what_was_written_in_order_is_a_state_however_often_it_went_round() {
        for last in [0, 1, 7, 511, 512, 513, 2_000] {
            assert_eq!(state(folder_with(1..=last).path()).unwrap(), last);
        }
    }

    #[test]
    fn a_write_without_an_earlier_one_is_none() {
        for missing in [1, 6, 700, 998] {
            let last = if missing < 10 { 9 } else { 999 };
            let folder = folder_with((1..=last).filter(|number| *number != missing));
            let problem = state(folder.path()).unwrap_err().to_string();
            assert!(problem.contains(&format!("[{missing}]")), "{problem}");
        }
    }

    #[test]
    fn half_a_write_is_none() {
        let folder = folder_with(1..=20);
        let (file, at) = place(20);
        let file = OpenOptions::new().write(true).open(folder.path().join(FILES[file])).unwrap();
        file.write_all_at(&[9; 512], at + 512).unwrap();
        assert!(state(folder.path()).unwrap_err().to_string().contains("no whole write"));
    }
}
