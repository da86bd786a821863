//! Ours and theirs in turn, so that a machine that slows down slows both.

use std::time::Duration;

use anyhow::Result;

use super::machine::settle;
use crate::bench::samples::Samples;

/// Pairs that are done first and not counted: caches of the kernel fill, programs are read from disk.
pub(super) const WARM_UP: usize = 2;

/// What both took, so many times. Each does the work of the round it is given, and says how long that took.
pub(super) async fn in_turn(
    rounds: usize,
    mut ours: impl AsyncFnMut(usize) -> Result<Duration>,
    mut theirs: impl AsyncFnMut(usize) -> Result<Duration>,
) -> Result<(Samples, Samples)> {
    let (mut our_times, mut their_times) = (Samples::default(), Samples::default());
    for round in 0..rounds + WARM_UP {
        for turn in 0..2 {
            settle().await?;
            // Whoever is first in one pair is second in the next.
            let (took, times) = if (round + turn) % 2 == 0 {
                (ours(round).await?, &mut our_times)
            } else {
                (theirs(round).await?, &mut their_times)
            };
            if round >= WARM_UP {
                times.push(took);
            }
        }
    }
    Ok((our_times, their_times))
}
