//! Copying block by block, where device-mapper cannot do it at once. Until all is copied the volume is tagged `unfinished`, and
//! nobody gets it; now and then another tag says how much of it is on the disk for good, where the repeated call goes on after
//! a crash.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::plan::{Plan, Step};
use super::reading::{Holds, Reading};
use crate::error::{Error, Result};
use crate::host::kernel::{Copying, Stretch};
use crate::lvm::tags::UNFINISHED;
use crate::lvm::tags::copy_progress::CopyProgress;
use crate::node::Node;
use crate::node::volume::{Volume, device_path};

/// Bytes that are written before it is looked whether to go on. Each step starts threads and takes memory for them, which costs
/// more than looking: so they are large, and still a matter of seconds.
const STEP_BYTES: u64 = 256 << 20;

/// A copy that is being made.
struct Filling<'v> {
    volume: &'v Volume,
    from: PathBuf,
    to: PathBuf,
    plan: Plan,
    is_zeroed: bool,
    is_raw: bool,
}

impl Node {
    /// Copies what is read to a volume that was made for it, just now or by an earlier try, and takes the tags away that say
    /// that it is not whole.
    pub(super) async fn fill(
        &self,
        volume: Volume,
        reading: Reading,
        (is_new, is_raw): (bool, bool),
    ) -> Result<Volume> {
        let name = volume.logical.name.clone();
        let copying = self.copies.begin(&name, &volume.tags.class, reading.bytes);
        self.copy_blocks(&volume, &reading, (is_new, is_raw)).await?;
        drop(copying);
        let now = self.unfinished(&name).await?;
        let progress = now.tags.copied.and_then(|copied| copied.progress).map(|progress| progress.to_tag());
        let over: Vec<String> = [String::from(UNFINISHED)].into_iter().chain(progress).collect();
        self.change_tags(&volume, &[], &over).await?;
        self.let_go(&reading).await;
        self.deactivate_quietly(&volume.group, &volume.logical.name).await;
        self.volume(&name).await
    }

    async fn copy_blocks(&self, volume: &Volume, reading: &Reading, (is_new, is_raw): (bool, bool)) -> Result<()> {
        let _permit = self.copies.permit().await.ok_or_else(stopping)?;
        self.lend(&reading.origin).await?;
        let (read, _read) = self.held_origin(&reading.origin).await?;
        let (written, _written) = self.held(volume).await?;
        let (from, to) = (device_path(&read), device_path(&written));
        // What is done of the same source is done; of another one, nothing is.
        let source = &reading.origin.logical.uuid;
        let progress = volume.tags.copied.as_ref().and_then(|copied| copied.progress.as_ref());
        let done = progress.map_or(0, |progress| progress.done(source, is_raw));
        // What an earlier try wrote is of another moment, perhaps, and must not shine through where there are zeroes now.
        let rest = Stretch { device: to.clone(), offset: done, length: volume.bytes().saturating_sub(done) };
        let is_zeroed = volume.is_zeroed() && (is_new || self.give_back(volume, rest).await);
        let is_nothing = reading.holds() == Holds::Nothing;
        // What nobody used shows what another tenant of the disk had there.
        let plan =
            if is_nothing { Plan::all(0, is_zeroed) } else { self.plan(reading, &from, is_zeroed, is_raw).await };
        let filling = Filling { volume, from, to, plan, is_zeroed, is_raw };
        self.copy_planned(&filling, source, done).await?;
        if is_nothing && !volume.is_zeroed() {
            self.zero_signatures(volume, &written).await?;
        }
        self.flush_copy(&filling).await?;
        self.ensure_readable(&reading.origin).await
    }

    async fn copy_planned(&self, filling: &Filling<'_>, source: &str, done: u64) -> Result<()> {
        let (volume, plan) = (filling.volume, &filling.plan);
        let (name, all) = (&volume.logical.name, plan.work(0));
        let mut left = plan.work(done);
        tracing::info!(volume = name, all, left, from = done, of = volume.bytes(), "copies block by block");
        self.copies.note(name, all - left, all);
        let (mut at, mut due) = (done, Instant::now());
        let (mut unremembered, mut remembered_at) = (0, Instant::now());
        while let Some(step) = plan.step(at, self.step_bytes(volume)) {
            if self.detached.is_closed() {
                return Err(stopping());
            }
            self.copy_step(filling, &step).await?;
            at = step.end;
            left -= step.work;
            unremembered += step.work;
            self.copies.note(name, all - left, all);
            if left > 0 && self.copies.is_to_be_remembered(unremembered, remembered_at.elapsed()) {
                let (of, raw) = (source.to_owned(), filling.is_raw);
                self.remember(filling, CopyProgress { of, bytes: at, raw }).await?;
                (unremembered, remembered_at) = (0, Instant::now());
            }
            due = self.pause(volume, due, step.work).await;
        }
        Ok(())
    }

    async fn copy_step(&self, filling: &Filling<'_>, step: &Step) -> Result<()> {
        let failed = |source| Error::kernel(format!("could not copy to {}", filling.volume.full_name()), source);
        if !step.copied.is_empty() {
            let (from, to, ranges) = (filling.from.clone(), filling.to.clone(), step.copied.clone());
            let is_zeroed = filling.is_zeroed;
            self.kernel.copy(Copying { from, to, ranges, is_zeroed }).await.map_err(failed)?;
        }
        for range in &step.zeroed {
            let (offset, length) = (range.start, range.end - range.start);
            self.kernel.zero(Stretch { device: filling.to.clone(), offset, length }).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Notes how far the copy is, so that it holds after a power cut.
    async fn remember(&self, filling: &Filling<'_>, progress: CopyProgress) -> Result<()> {
        self.flush_copy(filling).await?;
        let now = self.unfinished(&filling.volume.logical.name).await?;
        let before = now.tags.copied.as_ref().and_then(|copied| copied.progress.as_ref()).map(CopyProgress::to_tag);
        let before: Vec<String> = before.into_iter().collect();
        self.change_tags(&now, &[progress.to_tag()], &before).await
    }

    /// The copy as it is now, of which not all is there yet.
    async fn unfinished(&self, name: &str) -> Result<Volume> {
        let view = self.groups.read().await?;
        match Volume::find(&view, name)? {
            Some(volume) => Ok(volume),
            None => Err(self.missing(&view, name).await),
        }
    }

    async fn flush_copy(&self, filling: &Filling<'_>) -> Result<()> {
        let failed = |source| Error::kernel(format!("could not flush {}", filling.volume.full_name()), source);
        self.kernel.flush(&filling.to).await.map_err(failed)
    }

    /// Bytes a second that the volume's class lets it be written with.
    fn copy_rate(&self, volume: &Volume) -> Option<u64> {
        self.class(&volume.tags.class)?.copy_rate
    }

    /// So that a bounded copy does not come in bursts of seconds.
    fn step_bytes(&self, volume: &Volume) -> u64 {
        self.copy_rate(volume).map_or(STEP_BYTES, |rate| (rate / 4).min(STEP_BYTES))
    }

    /// Waits until so many bytes may have been written since the last step was due; answers when that was.
    async fn pause(&self, volume: &Volume, due: Instant, work: u64) -> Instant {
        let Some(rate) = self.copy_rate(volume) else { return Instant::now() };
        let milliseconds = u64::try_from(u128::from(work) * 1_000 / u128::from(rate)).unwrap_or(u64::MAX);
        let next = due + Duration::from_millis(milliseconds);
        tokio::time::sleep_until(next).await;
        // What the disk was slower than the budget is not made good afterwards.
        next.max(Instant::now())
    }
}

fn stopping() -> Error {
    Error::Unavailable { problem: String::from("the node is ending; the copy goes on when it is asked for again") }
}
