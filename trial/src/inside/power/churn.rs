//! What is written over again and again, so that the room of thick snapshots fills. Nobody reads it back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::inside::kind::Kind;

/// Bytes of a piece.
const PIECE: u64 = 64 << 10;
/// Pieces that are written at once: so few that a snapshot's room is not full before anybody has looked at it.
const PIECES: usize = 4;
/// The file with the pieces in a file system.
const FILE: &str = "churn";
/// Its bytes.
const FILE_BYTES: u64 = 3 << 20;

/// Where they begin on a device of so many bytes. It may grow: no piece is ever where they do not begin yet.
pub fn begin(bytes: u64) -> u64 {
    (bytes / 2).next_multiple_of(PIECE).min(bytes)
}

/// Writes some pieces anew and flushes them.
pub fn write(kind: Kind, target: &Path, bytes: u64, random: &mut fastrand::Rng) -> Result<()> {
    let (path, range) =
        if kind.is_block() { (target.to_owned(), begin(bytes)..bytes) } else { (target.join(FILE), 0..FILE_BYTES) };
    let file = File::options().create(!kind.is_block()).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let mut content = vec![0; usize::try_from(PIECE)?];
    for _ in 0..PIECES {
        random.fill(&mut content);
        let piece = random.u64(..(range.end - range.start) / PIECE);
        file.write_all_at(&content, range.start + piece * PIECE)
            .with_context(|| format!("cannot write to {}", path.display()))?;
    }
    file.sync_all().with_context(|| format!("cannot flush {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::power::records::{self, Record};

    #[test]
    fn records_stay_as_they_are_also_when_the_device_has_grown() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("device");
        let mut random = fastrand::Rng::with_seed(3);
        for bytes in [4 << 20, 12 << 20] {
            File::create(&device).unwrap().set_len(bytes).unwrap();
            let last = records::slots(Kind::Block, bytes) - 1;
            let records = [Record { number: 0, slot: 0, seed: 1 }, Record { number: 1, slot: last, seed: 2 }];
            records::write(Kind::Block, &device, &records).unwrap();
            for bytes in [bytes, bytes * 2] {
                File::options().write(true).open(&device).unwrap().set_len(bytes).unwrap();
                for _ in 0..100 {
                    write(Kind::Block, &device, bytes, &mut random).unwrap();
                }
                assert_eq!(records::wrong(Kind::Block, &device, &records).unwrap(), Vec::<String>::new());
            }
        }
    }
}
