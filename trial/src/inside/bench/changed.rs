//! How fast it is told what changed between two snapshots.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;

use super::Bench;
use super::machine::settle;
use super::turns::WARM_UP;
use crate::bench::mebibytes;
use crate::bench::samples::Samples;

/// Bytes of a piece of the pool, as the node makes one of this size.
const CHUNK: u64 = 64 << 10;
/// One piece in so many changes: each for itself, so that nothing is told in fewer words.
const CHANGED_EVERY: usize = 100;

impl Bench {
    /// MiB of the volume that are told about in a second, of a volume that is written throughout.
    pub(super) async fn changed_blocks(&mut self) -> Result<()> {
        let (calls, bytes) = (self.calls.clone(), self.repetitions.changed);
        let volume = calls.use_raw("changed", bytes, None).await?;
        write_every(&volume.target, bytes, 1)?;
        let base = calls.snapshot("snapshot-base", &volume.id).await?;
        write_every(&volume.target, bytes, CHANGED_EVERY)?;
        let later = calls.snapshot("snapshot-later", &volume.id).await?;

        let mut rates = Vec::new();
        for round in 0..self.repetitions.streams + WARM_UP {
            settle().await?;
            let start = Instant::now();
            let changed = self.changed_bytes(&base, &later).await?;
            let took = start.elapsed();
            let expected = bytes.div_ceil(CHUNK).div_ceil(CHANGED_EVERY as u64) * CHUNK;
            ensure!(changed == expected, "{changed} bytes are said to have changed, not {expected}");
            if round >= WARM_UP {
                rates.push(mebibytes(bytes) / took.as_secs_f64());
            }
        }
        self.figures.time("changed_blocks_mib_per_s", &rates.into_iter().collect::<Samples>());
        calls.leave(&volume).await
    }

    async fn changed_bytes(&self, base: &str, later: &str) -> Result<u64> {
        let request = v1::GetMetadataDeltaRequest {
            base_snapshot_id: base.to_owned(),
            target_snapshot_id: later.to_owned(),
            ..v1::GetMetadataDeltaRequest::default()
        };
        let answer = self.calls.client.metadata.clone().get_metadata_delta(request).await;
        let (mut stream, mut bytes) = (answer.context("GetMetadataDelta")?.into_inner(), 0);
        while let Some(message) = stream.message().await? {
            bytes += message.block_metadata.iter().map(|block| block.size_bytes).sum::<i64>();
        }
        Ok(u64::try_from(bytes)?)
    }
}

/// Writes a page to each of so many pieces of a device; what else is in such a piece the pool makes zero.
fn write_every(device: &Path, bytes: u64, every: usize) -> Result<()> {
    let device = OpenOptions::new().write(true).open(device)?;
    for piece in (0..bytes).step_by(usize::try_from(CHUNK)? * every) {
        device.write_all_at(&[0xa5; 4096], piece)?;
    }
    Ok(device.sync_all()?)
}
