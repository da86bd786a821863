//! Keeps short the time in which a snapshot holds its volume's writes back, and with them whoever writes to it: what is still in
//! memory is written before, and an lvm command that does not come back from it is ended. And freezes what must write out its log.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::host::commands::CommandError;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::node::Node;
use crate::node::volume::Volume;

/// How long volumes are held back at most. Most programs that wait for a disk, and those who wait for them, bear these, and
/// the caller (external-snapshotter: a minute) is still there for the answer.
pub(in crate::node) const LIMIT: Duration = Duration::from_secs(10);
/// How long is waited for what is in memory: some tens of GiB to a good disk.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often is looked whether lvm holds a volume back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Node {
    /// Has what was written to a mounted volume reach its disk, while its users go on writing: when it is frozen the kernel does
    /// the same, and they wait. One that cannot do it, or not in time, is frozen all the same.
    pub(in crate::node) async fn write_out(&self, group: &VolumeGroup, logical: &LogicalVolume) -> Result<()> {
        let Some(folder) = self.writable_at(group, logical).await? else { return Ok(()) };
        let written = timeout(PATIENCE, self.kernel.sync(&folder)).await.unwrap_or_else(|late| Err(late.into()));
        if let Err(error) = written {
            tracing::warn!(%error, group = group.name, volume = logical.name, "could not write out what is in memory before a snapshot");
        }
        Ok(())
    }

    /// Freezes the volume's file system for a moment, which has it write out its log. Linux (7.2) cannot recover an xfs that was grown
    /// twice since that was done: after a power cut it is never mounted again (`Structure needs cleaning`).
    pub(in crate::node) async fn write_log_out(&self, volume: &Volume) -> Result<()> {
        let (group, logical) = (&volume.group, &volume.logical);
        // An lvm command may be holding it back, too, and must not find it going.
        let turn = self.writer.turn(&group.name).await;
        let (kernel, uuid) = (Arc::clone(&self.kernel), logical.mapper_uuid(group));
        let freezing = self.detached.spawn(async move {
            let frozen = kernel.suspend(&uuid).await;
            frozen.and(kernel.resume(&uuid).await)
        });
        let frozen = freezing.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        self.keep_running(&turn, group, logical).await?;
        frozen.map_err(|source| Error::kernel(format!("could not write out the log of {}", volume.full_name()), source))
    }

    /// Waits for an lvm command that holds the volume's device back for a moment. One that does so for longer than the limit is
    /// given up ([`Error::Unavailable`]); it is killed then, since a device must not be set going while somebody may still have the
    /// pool take its snapshot. In the kernel it cannot be killed: there it waits for a disk, as all do that use it.
    pub(in crate::node) async fn held_briefly<C: Future<Output = Result<(), CommandError>>>(
        &self,
        group: &VolumeGroup,
        logical: &LogicalVolume,
        command: impl FnOnce(CancellationToken) -> C,
    ) -> Result<()> {
        let given_up = CancellationToken::new();
        let (uuid, mut command) = (logical.mapper_uuid(group), pin!(command(given_up.clone())));
        let mut since: Option<Instant> = None;
        loop {
            if let Ok(ended) = timeout(LOOK_EVERY, &mut command).await {
                let is_given_up = ended.is_err() && given_up.is_cancelled();
                return if is_given_up { Err(too_long(group, logical)) } else { ended.map_err(Error::from) };
            }
            let told = self.device_of(&uuid).await.map(|device| device.is_some_and(|device| device.suspended));
            since = match told {
                Ok(false) => None,
                Ok(true) => since.or_else(|| Some(Instant::now())),
                // Of what cannot be told now it may still be true.
                Err(_) => since,
            };
            if !given_up.is_cancelled() && since.is_some_and(|since| since.elapsed() >= LIMIT) {
                tracing::error!(
                    group = group.name,
                    volume = logical.name,
                    "lvm holds a volume back and does not end; killing it"
                );
                given_up.cancel();
            }
        }
    }
}

fn too_long(group: &VolumeGroup, logical: &LogicalVolume) -> Error {
    let limit = LIMIT.as_secs();
    let problem = format!(
        "lvm held {}/{} back for {limit} s and was ended, so that its users go on: try again",
        group.name, logical.name
    );
    Error::Unavailable { problem }
}
