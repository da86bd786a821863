//! The journal: one JSON line for each thing that was asked, answered or written, in a file that lies outside of
//! the machine. A line is flushed before the call is sent that it announces; the page cache of a guest dies with it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use crate::inside::power::ledger::{Entry, Ledger, Volume};

/// The journal with what follows from it.
#[derive(Debug)]
pub struct Journal {
    state: Mutex<(File, Ledger)>,
}

impl Journal {
    /// Reads what is there and goes on at its end. A last line that was cut off announced nothing that was sent.
    pub fn open(path: &Path) -> Result<Self> {
        let (ledger, end) = folded(path)?;
        let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        Ok(Self { state: Mutex::new((file, ledger)) })
    }

    /// What follows from a journal that somebody else writes.
    pub fn read(path: &Path) -> Result<Ledger> {
        Ok(folded(path)?.0)
    }

    /// Writes a line; it is safe when this returns.
    pub fn write(&self, entry: &Entry) -> Result<()> {
        tokio::task::block_in_place(|| {
            let mut line = serde_json::to_vec(entry)?;
            line.push(b'\n');
            let mut state = self.locked();
            state.0.write_all(&line).context("cannot write to the journal")?;
            state.0.sync_data().context("cannot flush the journal")?;
            state.1.apply(entry);
            Ok(())
        })
    }

    /// Bytes of the lines that are safe.
    pub fn safe_bytes(&self) -> Result<u64> {
        Ok(self.locked().0.stream_position()?)
    }

    /// What is known of a volume.
    pub fn volume(&self, name: &str) -> Volume {
        self.locked().1.volumes.get(name).cloned().unwrap_or_default()
    }

    /// All that is known.
    pub fn ledger(&self) -> Ledger {
        self.locked().1.clone()
    }

    fn locked(&self) -> MutexGuard<'_, (File, Ledger)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What follows from the whole lines, and their bytes.
fn folded(path: &Path) -> Result<(Ledger, u64)> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut ledger = Ledger::default();
    for (number, line) in text[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let entry = serde_json::from_slice(line).with_context(|| format!("{} line {}", path.display(), number + 1))?;
        ledger.apply(&entry);
    }
    Ok((ledger, u64::try_from(whole)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::power::ledger::{Call, Existence};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_torn_last_line_is_dropped_and_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let entry = |volume: &str| Entry::Intent { volume: volume.to_owned(), call: Call::Delete };
        Journal::open(&path).unwrap().write(&entry("a")).unwrap();
        let mut text = std::fs::read(&path).unwrap();
        let torn: Vec<u8> = text[..text.len() / 2].to_vec();
        text.extend(torn);
        std::fs::write(&path, text).unwrap();
        let journal = Journal::open(&path).unwrap();
        journal.write(&entry("b")).unwrap();
        let volumes = Journal::open(&path).unwrap().ledger().volumes;
        assert_eq!(volumes.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(volumes["a"].existence, Existence::Unknown);
    }

    #[test]
    fn a_whole_line_that_is_not_understood_is_told_and_a_torn_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        std::fs::write(&path, "\"boot\"\n\"bo").unwrap();
        assert!(Journal::read(&path).is_ok() && Journal::open(&path).is_ok());
        std::fs::write(&path, "\"boot\"\n\"bo\n").unwrap();
        assert!(Journal::read(&path).unwrap_err().to_string().ends_with("line 2"));
        assert!(Journal::open(&path).is_err());
    }
}
