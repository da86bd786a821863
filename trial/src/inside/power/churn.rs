//! What is written over again and again, so that the room of thick snapshots fills. Nobody reads it back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::inside::kind::Kind;

/// Bytes of a piece. On a device every other one is written, so that records are all over it, also where it has grown.
pub const PIECE: u64 = 64 << 10;
/// Pieces that are written at once: so few that a snapshot's room is not full before anybody has looked at it.
const PIECES: usize = 4;
/// The file with the pieces in a file system.
const FILE: &str = "churn";
/// Its bytes.
const FILE_BYTES: u64 = 3 << 20;

/// Writes some pieces anew and flushes them.
pub fn write(kind: Kind, target: &Path, bytes: u64, random: &mut fastrand::Rng) -> Result<()> {
    let (path, pieces, step) = if kind.is_block() {
        (target.to_owned(), bytes / PIECE / 2, 2)
    } else {
        (target.join(FILE), FILE_BYTES / PIECE, 1)
    };
    let file = File::options().create(!kind.is_block()).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let mut content = vec![0; usize::try_from(PIECE)?];
    for _ in 0..PIECES {
        random.fill(&mut content);
        let piece = random.u64(..pieces) * step;
        file.write_all_at(&content, piece * PIECE).with_context(|| format!("cannot write to {}", path.display()))?;
    }
    file.sync_all().with_context(|| format!("cannot flush {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::inside::power::records::{self, RECORD, Record};

    #[test]
    fn records_all_over_a_device_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("device");
        let bytes = 2 * Kind::Block.least_bytes();
        File::create(&device).unwrap().set_len(bytes).unwrap();
        let mut random = fastrand::Rng::with_seed(3);
        let slots: BTreeSet<u64> = (0..400).map(|_| records::slot(Kind::Block, bytes, &mut random)).collect();
        let records: Vec<Record> =
            (0..).zip(&slots).map(|(number, slot)| Record { number, slot: *slot, seed: 1 }).collect();
        records::write(Kind::Block, &device, &records).unwrap();
        for _ in 0..100 {
            write(Kind::Block, &device, bytes, &mut random).unwrap();
        }
        assert_eq!(records::wrong(Kind::Block, &device, &records).unwrap(), Vec::<String>::new());
        assert_eq!(std::fs::metadata(&device).unwrap().len(), bytes);
        let (first, last) = (slots.first().unwrap(), slots.last().unwrap());
        let record = RECORD as u64;
        assert!(first * record < 4 * PIECE && (last + 1) * record > bytes - 4 * PIECE, "{slots:?}");
    }
}
