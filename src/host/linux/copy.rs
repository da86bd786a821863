//! Copying from one block device to another, past the page cache of both: what is copied is read once. Several pieces are under
//! way at a time, so that one device reads while the other writes.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::libc;

use super::super::kernel::Copying;

/// Bytes that are read and written at once.
const PIECE: usize = 1 << 20;
/// Pieces that are under way.
const AT_ONCE: usize = 4;
/// To which direct input and output must be aligned: no disk has larger sectors.
const ALIGNMENT: usize = 4096;
/// Zeroes are passed over in units of this, the least that a thin pool hands out.
const UNIT: usize = 64 << 10;

/// Copies ranges.
pub(super) fn copy(copying: &Copying) -> io::Result<()> {
    let (from, to) = (open(&copying.from, false)?, open(&copying.to, true)?);
    let pieces = Mutex::new(copying.ranges.iter().cloned().flat_map(in_pieces));
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut buffer = vec![0_u8; PIECE + ALIGNMENT];
        let start = buffer.as_ptr().align_offset(ALIGNMENT);
        while let Some(range) = next() {
            let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
            let piece = &mut buffer[start..start + length];
            from.read_exact_at(piece, range.start)?;
            write(&to, piece, range.start, copying.is_zeroed)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| thread::Builder::new().spawn_scoped(scope, work)).collect();
        let results = workers.into_iter().map(|worker| match worker?.join() {
            Ok(result) => result,
            Err(_panic) => Err(io::Error::other("copying broke off")),
        });
        // All of them are waited for, whichever failed.
        results.fold(Ok(()), io::Result::and)
    })
}

fn in_pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let starts = range.clone().step_by(PIECE);
    starts.map(move |start| start..range.end.min(start + PIECE as u64))
}

fn open(device: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(!write).write(write).custom_flags(libc::O_DIRECT).open(device)
}

fn write(to: &File, piece: &[u8], offset: u64, pass_over_zeroes: bool) -> io::Result<()> {
    if !pass_over_zeroes {
        return to.write_all_at(piece, offset);
    }
    let is_zero = |unit: &[u8]| unit.iter().all(|byte| *byte == 0);
    let mut at = 0;
    while at < piece.len() {
        let is_same = |unit: &&[u8]| is_zero(unit) == is_zero(&piece[at..piece.len().min(at + UNIT)]);
        let length: usize = piece[at..].chunks(UNIT).take_while(is_same).map(<[u8]>::len).sum();
        let run = &piece[at..at + length];
        if !is_zero(run) {
            to.write_all_at(run, offset + at as u64)?;
        }
        at += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::iter::once;

    use super::*;

    /// Copies `ranges` of a file with `content` over one full of nines; `None` on a file system without direct input and output.
    fn copied(content: &[u8], ranges: Vec<Range<u64>>, is_zeroed: bool) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, content).unwrap();
        std::fs::write(&to, vec![9_u8; content.len()]).unwrap();
        let result = copy(&Copying { from, to: to.clone(), ranges, is_zeroed });
        if result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)) {
            return None;
        }
        result.unwrap();
        Some(std::fs::read(to).unwrap())
    }

    #[test]
    fn zeroes_are_passed_over_only_where_they_are_there_already() {
        let mut content = vec![7_u8; 3 * UNIT + ALIGNMENT];
        content[UNIT..2 * UNIT].fill(0);
        for (is_zeroed, kept) in [(true, 9), (false, 0)] {
            let Some(found) = copied(&content, once(0..(3 * UNIT) as u64).collect(), is_zeroed) else { return };
            let units = [found[0], found[UNIT], found[2 * UNIT], found[3 * UNIT]];
            assert_eq!(units, [7, kept, 7, 9]);
        }
    }

    #[test]
    fn what_is_in_the_ranges_is_copied_and_nothing_else() {
        let blocks = 5 * PIECE / ALIGNMENT;
        let content: Vec<u8> =
            (0..blocks).flat_map(|block| vec![u8::try_from(block % 8).unwrap(); ALIGNMENT]).collect();
        let block = ALIGNMENT as u64;
        let ranges =
            vec![0..block, 3 * block..4 * block + 3 * PIECE as u64, content.len() as u64 - block..content.len() as u64];
        let Some(found) = copied(&content, ranges.clone(), false) else { return };
        for (at, (found, held)) in found.iter().zip(&content).enumerate() {
            let is_within = ranges.iter().any(|range| range.contains(&(at as u64)));
            assert_eq!(*found, if is_within { *held } else { 9 }, "at {at}");
        }
    }

    #[test]
    fn a_copy_that_fails_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, vec![7_u8; PIECE]).unwrap();
        std::fs::write(&to, "").unwrap();
        let beyond_its_end = once(0..2 * PIECE as u64).collect();
        assert!(copy(&Copying { from, to, ranges: beyond_its_end, is_zeroed: false }).is_err());
    }
}
