//! What a snapshot costs its volume: small writes that are flushed one by one, as databases make them, to a volume with a snapshot
//! and to the same without one.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Bench;
use super::turns::in_turn;

/// Bytes of a write. Each goes to a piece of its own of these many bytes, the least that a pool knows.
const WRITE: [u8; 4096] = [0xa5; 4096];
const PIECE: u64 = 64 << 10;

/// Which writes since the snapshot are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writes {
    /// Those for which what was there has to be kept.
    First,
    /// Further ones to the same places.
    Later,
}

impl Bench {
    pub(super) async fn snapshot_writes(&mut self) -> Result<()> {
        for class in ["thick", "thin"] {
            let (calls, writes) = (self.calls.clone(), self.repetitions.writes);
            let name = format!("written-{class}");
            let volume = calls.use_raw(&name, writes * PIECE, Some(class)).await?;
            let (id, target) = (&volume.id, &volume.target);
            write(target, writes)?;
            for (timed, key) in [(Writes::First, "first"), (Writes::Later, "later")] {
                let with = async |round| {
                    let snapshot = calls.snapshot(&format!("snapshot-{name}-{key}-{round}"), id).await?;
                    if timed == Writes::Later {
                        write(target, writes)?;
                    }
                    let took = write(target, writes)?;
                    calls.delete_snapshot(&snapshot).await?;
                    Ok(took)
                };
                let (with, without) = in_turn(self.repetitions.copies, with, async |_| write(target, writes)).await?;
                self.figures.ratio(&format!("{class}_snapshot_{key}_writes_ratio"), &with, &without);
            }
            calls.leave(&volume).await?;
            calls.delete(id).await?;
        }
        Ok(())
    }
}

fn write(device: &Path, writes: u64) -> Result<Duration> {
    let device = OpenOptions::new().write(true).open(device)?;
    let start = Instant::now();
    for piece in 0..writes {
        device.write_all_at(&WRITE, piece * PIECE)?;
        device.sync_data()?;
    }
    Ok(start.elapsed())
}
