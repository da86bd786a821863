//! Trims mounted volumes, on the schedule of their class: what a file system does not use any more goes back to the pool, or to
//! the disk (fstrim(8)).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::host::commands::Command;
use crate::node::Node;
use crate::node::volume::Volume;

/// How often the schedules are looked at, unless a class has a shorter one.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Works until told to stop.
pub async fn run(node: Arc<Node>, stop: CancellationToken) {
    let mut turns = HashMap::new();
    loop {
        let shortest = node.classes.current().iter().filter_map(|class| class.trim.period()).min();
        tokio::select! {
            () = sleep(shortest.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)) => {}
            () = stop.cancelled() => return,
        }
        if shortest.is_none() {
            continue;
        }
        if let Err(error) = node.trim_due(&mut turns, &stop).await {
            tracing::warn!(%error, "could not look for volumes to trim");
        }
    }
}

/// The number of the period that is running. Each volume's begins at a time of its own, so that not all are trimmed at once;
/// nothing has to be remembered over a restart.
fn turn(uuid: &str, now: Duration, period: Duration) -> u64 {
    let mut hasher = DefaultHasher::new();
    uuid.hash(&mut hasher);
    let period = period.as_secs().max(1);
    now.as_secs().saturating_add(hasher.finish() % period) / period
}

impl Node {
    /// Trims the volumes whose period has changed since the last look, one after the other.
    async fn trim_due(&self, turns: &mut HashMap<String, u64>, stop: &CancellationToken) -> Result<()> {
        let view = self.groups.read().await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut seen = HashMap::new();
        for volume in Volume::all(&view) {
            let period = self.class(&volume.tags.class).and_then(|class| class.trim.period());
            let Some(period) = period.filter(|_| volume.tags.deleting.is_none() && !volume.tags.block) else {
                continue;
            };
            let turn = turn(&volume.logical.uuid, now, period);
            let is_due = turns.get(&volume.logical.uuid).is_some_and(|last| *last != turn);
            seen.insert(volume.logical.uuid.clone(), turn);
            if is_due && !stop.is_cancelled() {
                self.trim(&volume).await?;
            }
        }
        *turns = seen;
        Ok(())
    }

    async fn trim(&self, volume: &Volume) -> Result<()> {
        let Some(folder) = self.writable_at(&volume.group, &volume.logical).await? else { return Ok(()) };
        let name = volume.full_name();
        match self.commands.run_ok(&Command::new("fstrim").argument(&folder)).await {
            Ok(_) => tracing::info!(volume = name, "trimmed"),
            // Not every disk can.
            Err(error) => tracing::debug!(%error, volume = name, "could not trim"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_volume_has_one_turn_in_each_period_at_a_time_of_its_own() {
        let period = Duration::from_secs(1_000);
        let start = |uuid: &str| {
            (1..=1_000).find(|second| {
                let at = |second| turn(uuid, Duration::from_secs(second), period);
                at(*second) != at(second - 1)
            })
        };
        let (one, other) = (start("one").unwrap(), start("other").unwrap());
        assert_ne!(one, other);
        let turns: Vec<u64> =
            (0..10).map(|number| turn("one", Duration::from_secs(one + number * 1_000), period)).collect();
        assert!(turns.windows(2).all(|pair| pair[1] == pair[0] + 1), "{turns:?}");
    }
}
