//! Copying block by block, where device-mapper cannot do it at once. Until all is copied the volume is tagged `unfinished`, and
//! nobody gets it; after a crash the repeated call begins anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::reading::Reading;
use crate::error::{Error, Result};
use crate::host::kernel::{Copying, Stretch};
use crate::lvm::tags::UNFINISHED;
use crate::node::Node;
use crate::node::volume::{Volume, device_path};

/// How many volumes are copied at once: more would only share the disks.
const AT_ONCE: usize = 2;
/// Bytes that are copied before it is looked whether to go on.
const STEP_BYTES: u64 = 64 << 20;

/// The copies that are being made.
pub struct Copies {
    permits: Semaphore,
    /// Bytes copied, and in all, by the volume's name.
    progress: Mutex<HashMap<String, (u64, u64)>>,
}

impl Default for Copies {
    fn default() -> Self {
        Self { permits: Semaphore::new(AT_ONCE), progress: Mutex::default() }
    }
}

impl Copies {
    /// How far the copying of a volume is, for messages: `copied (3 of 10 MiB)`.
    pub fn progress(&self, volume: &str) -> Option<String> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.get(volume).map(|(done, all)| format!("copied ({} of {} MiB)", done >> 20, all >> 20))
    }

    fn note(&self, volume: &str, done: u64, all: u64) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.insert(volume.to_owned(), (done, all));
    }

    fn forget(&self, volume: &str) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(volume);
    }
}

impl Node {
    /// Copies what is read to a volume that was made for it, just now or by an earlier try, and takes the tag away.
    pub(super) async fn fill(&self, volume: Volume, reading: Reading, is_new: bool) -> Result<Volume> {
        let name = volume.logical.name.clone();
        self.copies.note(&name, 0, reading.bytes);
        let copied = self.copy_blocks(&volume, &reading, is_new).await;
        self.copies.forget(&name);
        copied?;
        self.change_tags(&volume, &[], &[String::from(UNFINISHED)]).await?;
        self.let_go(&reading).await;
        self.deactivate_quietly(&volume.group, &volume.logical.name).await;
        self.volume(&name).await
    }

    async fn copy_blocks(&self, volume: &Volume, reading: &Reading, is_new: bool) -> Result<()> {
        let stopping = || Error::Unavailable { problem: String::from("the node is ending; the copy is begun anew") };
        let _permit = self.copies.permits.acquire().await.map_err(|_closed| stopping())?;
        let (read, _read) = self.held_origin(&reading.origin).await?;
        let (written, _written) = self.held(volume).await?;
        let to = device_path(&written);
        let whole = Stretch { device: to.clone(), offset: 0, length: volume.bytes() };
        // What an earlier try wrote is of another moment, perhaps, and must not shine through where there are zeroes now.
        let is_zeroed = volume.is_zeroed() && (is_new || self.give_back(volume, whole).await);
        let mut offset = 0;
        while offset < reading.bytes {
            if self.detached.is_closed() {
                return Err(stopping());
            }
            let length = STEP_BYTES.min(reading.bytes - offset);
            let from = Stretch { device: device_path(&read), offset, length };
            let failed = |source| Error::kernel(format!("could not copy to {}", volume.full_name()), source);
            self.kernel.copy(Copying { from, to: to.clone(), is_zeroed }).await.map_err(failed)?;
            offset += length;
            self.copies.note(&volume.logical.name, offset, reading.bytes);
        }
        if reading.holds_nothing && !volume.is_zeroed() {
            // It must not be taken for what another tenant of the disk had there.
            self.zero_signatures(volume, &written).await?;
        }
        let failed = |source| Error::kernel(format!("could not flush {}", volume.full_name()), source);
        self.kernel.flush(&to).await.map_err(failed)?;
        self.ensure_readable(&reading.origin).await
    }
}
