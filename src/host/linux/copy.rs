//! Copying from one block device to another, past the page cache of both: what is copied is read once.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;

use super::super::kernel::Copying;

/// Bytes that are read and written at once.
const PIECE: usize = 1 << 20;
/// To which direct input and output must be aligned: no disk has larger sectors.
const ALIGNMENT: usize = 4096;
/// Zeroes are passed over in units of this, the least that a thin pool hands out.
const UNIT: usize = 64 << 10;

/// Copies a stretch; both its ends are multiples of 4 KiB.
pub(super) fn copy(copying: &Copying) -> io::Result<()> {
    let (from, to) = (open(&copying.from.device, false)?, open(&copying.to, true)?);
    let mut buffer = vec![0_u8; PIECE + ALIGNMENT];
    let start = buffer.as_ptr().align_offset(ALIGNMENT);
    let (mut offset, end) = (copying.from.offset, copying.from.offset + copying.from.length);
    while offset < end {
        let length = usize::try_from(end - offset).map_or(PIECE, |rest| rest.min(PIECE));
        let piece = &mut buffer[start..start + length];
        from.read_exact_at(piece, offset)?;
        write(&to, piece, offset, copying.is_zeroed)?;
        offset += length as u64;
    }
    Ok(())
}

fn open(device: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(!write).write(write).custom_flags(libc::O_DIRECT).open(device)
}

fn write(to: &File, piece: &[u8], offset: u64, pass_over_zeroes: bool) -> io::Result<()> {
    if !pass_over_zeroes {
        return to.write_all_at(piece, offset);
    }
    let mut at = 0;
    while at < piece.len() {
        let length = UNIT.min(piece.len() - at);
        let unit = &piece[at..at + length];
        if unit.iter().any(|byte| *byte != 0) {
            to.write_all_at(unit, offset + at as u64)?;
        }
        at += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::kernel::Stretch;
    use super::*;

    #[test]
    fn a_stretch_is_copied_and_zeroes_are_passed_over_only_where_they_are_there_already() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let mut content = vec![7_u8; 3 * UNIT + ALIGNMENT];
        content[UNIT..2 * UNIT].fill(0);
        std::fs::write(&from, &content).unwrap();
        for (is_zeroed, kept) in [(true, 9), (false, 0)] {
            std::fs::write(&to, vec![9_u8; content.len()]).unwrap();
            let stretch = Stretch { device: from.clone(), offset: 0, length: (3 * UNIT) as u64 };
            let copied = copy(&Copying { from: stretch, to: to.clone(), is_zeroed });
            if copied.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)) {
                return; // A file system without direct input and output.
            }
            copied.unwrap();
            let found = std::fs::read(&to).unwrap();
            let units = [found[0], found[UNIT], found[2 * UNIT], found[3 * UNIT]];
            assert_eq!(units, [7, kept, 7, 9]);
        }
    }
}
