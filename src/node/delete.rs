//! `DeleteVolume`: marks the volume as deleted, durably, and answers; the reaper wipes and removes it.

use std::sync::Arc;

use crate::csi::condition::Deletable;
use crate::error::{Error, Result};
use crate::lvm::tags::deleting_tag;
use crate::lvm::volume_id::VolumeId;
use crate::lvm::wipe::Wipe;
use crate::node::Node;
use crate::node::volume::Volume;

impl Node {
    /// Deletes the volume, if it is one of those; one that is known to be gone is fine, one that is out of reach is not.
    pub async fn delete(self: &Arc<Self>, volume_id: &str, deletable: Deletable) -> Result<()> {
        let Some(name) = self.deletable("volume", volume_id)? else { return Ok(()) };
        let node = Arc::clone(self);
        self.mutate(&name.clone(), "deleting", async move { node.delete_locked(&name, deletable).await }).await
    }

    /// The logical name in the id of `what` is to be deleted; `None` where no node can have given out the id: it names nothing
    /// that could be lost.
    pub(super) fn deletable(&self, what: &str, id: &str) -> Result<Option<String>> {
        let Some(parsed) = VolumeId::parse(id) else { return Ok(None) };
        let (there, here) = (parsed.node, &self.identity.topology);
        if there != *here {
            return Err(Error::Unavailable {
                problem: format!("{what} {id} is on node {there:?}; this is node {here:?}"),
            });
        }
        Ok(Some(parsed.logical_volume))
    }

    async fn delete_locked(&self, name: &str, deletable: Deletable) -> Result<()> {
        let view = self.without_broken_off(self.groups.read().await?, name).await?;
        let Some(volume) = Volume::find(&view, name)? else {
            self.forgotten.end(name);
            return self.why_unknown(&view, name).await.map_or(Ok(()), Err);
        };
        if volume.tags.deleting.is_some() {
            self.writer.flush(&volume.group).await?;
            self.reaper.wake();
            return Ok(());
        }
        if deletable == Deletable::NeverUsed && !volume.tags.is_unused() {
            return Err(Error::precondition(format!("volume {} was used meanwhile, so it stays", volume.full_name())));
        }
        self.ensure_unused(&volume).await?;
        volume.ensure_writable()?;
        self.mark_deleting(&volume).await?;
        self.drop_copy_source(&view, name).await;
        Ok(())
    }

    /// Marks a volume that nobody uses as deleted, durably.
    pub(super) async fn mark_deleting(&self, volume: &Volume) -> Result<()> {
        let name = &volume.logical.name;
        let turn = self.writer.turn(&volume.group.name).await;
        let tag = deleting_tag(self.wipe_of(volume));
        let marked = self.writer.change_tags(&turn, &volume.group, name, &[tag], &[]).await;
        drop(turn);
        self.reaper.changed(&volume.group.name);
        let (after, flushed) = tokio::join!(self.groups.read(), self.writer.flush(&volume.group));
        let after = after?;
        match Volume::find(&after, name)? {
            Some(volume) if volume.tags.deleting.is_none() => {
                marked?;
                return Err(Error::Internal { problem: format!("{} took no tag", volume.full_name()) });
            }
            Some(_) => flushed?,
            None => self.why_unknown(&after, name).await.map_or(Ok(()), Err)?,
        }
        self.reaper.wake();
        Ok(())
    }

    /// An open or mounted volume is never removed.
    async fn ensure_unused(&self, volume: &Volume) -> Result<()> {
        volume.ensure_no_snapshot("deleted")?;
        let Some(device) = self.active_device(volume).await? else {
            self.forgotten.end(&volume.logical.name);
            return Ok(());
        };
        // A published block device is a mount of its node, which nobody need have open.
        self.ensure_unmounted(volume, &device).await?;
        if self.stays_open(volume).await? {
            return Err(Error::precondition(format!(
                "volume {} is in use: something has its device {} open; unpublish and unstage it first",
                volume.full_name(),
                device.name
            )));
        }
        Ok(())
    }

    /// How the volume's blocks are made unreadable: as its class says now, and thoroughly when that class
    /// is gone. A volume that was never given to anyone still may hold what lay there before. A pool zeroes what it gives to
    /// the next one, so zeroing would only fill it.
    fn wipe_of(&self, volume: &Volume) -> Wipe {
        match self.class(&volume.tags.class).map_or(Wipe::Zero, |class| class.wipe) {
            Wipe::Zero if volume.is_zeroed() => Wipe::None,
            wipe => wipe,
        }
    }
}
