//! Records: blocks of 4 KiB at random places of a volume, each with its number, content that follows from a seed,
//! and a checksum, so that a wrong one tells what it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::inside::kind::Kind;
use crate::inside::power::churn;

/// Bytes of a record.
pub const RECORD: usize = 4096;
/// The file with the records in a file system.
const FILE: &str = "records";

/// A record that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number within the volume.
    pub number: u64,
    /// Where it lies, in records.
    pub slot: u64,
    /// What its content follows from.
    pub seed: u64,
}

impl Record {
    fn content(&self) -> Vec<u8> {
        let mut content = vec![0; RECORD];
        fastrand::Rng::with_seed(self.seed).fill(&mut content[16..RECORD - 8]);
        content[..8].copy_from_slice(&self.number.to_le_bytes());
        content[8..16].copy_from_slice(&self.seed.to_le_bytes());
        let sum = checksum(&content[..RECORD - 8]);
        content[RECORD - 8..].copy_from_slice(&sum.to_le_bytes());
        content
    }

    fn offset(&self) -> u64 {
        self.slot * RECORD as u64
    }
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A place for a record on a published volume.
pub fn slot(kind: Kind, bytes: u64, random: &mut fastrand::Rng) -> u64 {
    if !kind.is_block() {
        // The file is sparse; few enough are written for the smallest file system.
        return random.u64(..2048);
    }
    // Beside the pieces that are churned.
    let of_piece = churn::PIECE / RECORD as u64;
    let piece = random.u64(..bytes / churn::PIECE / 2) * 2 + 1;
    piece * of_piece + random.u64(..of_piece)
}

/// What the records are in, by the path that the volume is published at.
pub fn path(kind: Kind, target: &Path) -> PathBuf {
    if kind.is_block() { target.to_owned() } else { target.join(FILE) }
}

/// Writes the records and flushes them.
pub fn write(kind: Kind, target: &Path, records: &[Record]) -> Result<()> {
    let path = path(kind, target);
    let is_new = !kind.is_block() && !path.try_exists()?;
    let file = File::options().create(is_new).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    for record in records {
        file.write_all_at(&record.content(), record.offset())
            .with_context(|| format!("cannot write record {record:?} to {}", path.display()))?;
    }
    file.sync_all().with_context(|| format!("cannot flush {}", path.display()))?;
    if is_new {
        File::open(target)?.sync_all().with_context(|| format!("cannot flush {}", target.display()))?;
    }
    Ok(())
}

/// The records that do not read back as they were written, with what is there instead.
pub fn wrong(kind: Kind, target: &Path, records: &[Record]) -> Result<Vec<String>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let path = path(kind, target);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) => return Ok(vec![format!("{} records are lost: {}: {error}", records.len(), path.display())]),
    };
    let mut wrong = Vec::new();
    for record in records {
        let mut found = vec![0; RECORD];
        match file.read_exact_at(&mut found, record.offset()) {
            Ok(()) if found == record.content() => {}
            Ok(()) => wrong.push(format!("instead of {record:?} there is {}", described(&found))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                wrong.push(format!("{record:?} lies beyond the end"));
            }
            Err(error) => wrong.push(format!("{record:?} cannot be read: {error}")),
        }
    }
    Ok(wrong)
}

/// Those of the records that are there.
pub fn present<'r>(kind: Kind, target: &Path, records: &'r [Record]) -> Result<Vec<&'r Record>> {
    let file = match File::open(path(kind, target)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let is_there = |record: &&Record| {
        let mut found = vec![0; RECORD];
        file.read_exact_at(&mut found, record.offset()).is_ok() && found == record.content()
    };
    Ok(records.iter().filter(is_there).collect())
}

fn described(found: &[u8]) -> String {
    let number = |at: usize| found[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if found.iter().all(|byte| *byte == 0) {
        String::from("nothing but zeroes")
    } else if checksum(&found[..RECORD - 8]) == number(RECORD - 8) {
        format!("the whole record number {} with seed {}", number(0), number(8))
    } else {
        String::from("something else")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_right_and_everything_else_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let record = |number, slot| Record { number, slot, seed: number + 7 };
        let records = [record(0, 3), record(1, 0)];
        write(Kind::Ext4, folder.path(), &records).unwrap();
        assert!(wrong(Kind::Ext4, folder.path(), &records).unwrap().is_empty());
        let known = [record(0, 3), record(5, 3)];
        assert_eq!(present(Kind::Ext4, folder.path(), &known).unwrap(), [&known[0]]);
        let others = [record(2, 0), record(2, 1), record(2, 4)];
        let wrong = wrong(Kind::Ext4, folder.path(), &others).unwrap();
        assert!(wrong[0].contains("the whole record number 1") && wrong[1].contains("zeroes"), "{wrong:?}");
        assert!(wrong[2].contains("beyond the end"), "{wrong:?}");
    }
}
