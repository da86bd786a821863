//! The volume groups of this machine, read from the physical volumes themselves: no process is started
//! and no lock is taken, so a read sees what an administrator's own command has just committed.

mod assemble;
mod look;
mod memory;
mod pages;
mod scan;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use self::memory::Memory;
use self::scan::Scanner;
use super::model::{LogicalVolume, VolumeGroup};
use super::system_id;
use crate::error::{Error, Result};
use crate::host::commands::Commands;
use crate::host::kernel::Kernel;

/// The volume groups at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Those that can be worked with, by name. Each name once.
    pub groups: Vec<Arc<VolumeGroup>>,
    /// Those that are there but must not be touched, by name.
    pub unusable: Vec<Unusable>,
    /// Groups that this process saw earlier and whose devices are gone, as they were last. A group that
    /// was removed from devices that are still there is not among them.
    pub vanished: Vec<Arc<VolumeGroup>>,
    /// Devices that may hold physical volumes, or do, but whose metadata could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// A group that is there but cannot be understood without guessing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Its name; where not even that can be read, the device that holds its metadata.
    pub name: String,
    /// What is wrong, for a person.
    pub reason: String,
    /// The groups that bear the name, as their devices tell. None where nothing of it can be read: then it may hold
    /// anything.
    pub told: Vec<Arc<VolumeGroup>>,
}

/// A device that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The device node.
    pub device: PathBuf,
    /// What is wrong, for a person.
    pub reason: String,
}

impl View {
    /// The usable group of that name.
    pub fn group(&self, name: &str) -> Option<&Arc<VolumeGroup>> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// A logical volume of the usable group of that name, with the group.
    pub fn logical_volume_in(&self, group: &str, name: &str) -> Option<(&Arc<VolumeGroup>, &Arc<LogicalVolume>)> {
        let group = self.group(group)?;
        Some((group, group.logical_volume(name)?))
    }

    /// Whether a group that is not among the usable ones may be there all the same: something could not be read that may be of
    /// it, or is not there now.
    pub fn may_hide(&self, name: &str) -> bool {
        let is_it = |unusable: &Unusable| unusable.name == name || unusable.told.is_empty();
        let is_doubtful = !self.unreadable.is_empty() || self.unusable.iter().any(is_it);
        self.group(name).is_none() && (is_doubtful || self.vanished.iter().any(|group| group.name == name))
    }

    /// Why the group of that name must not be touched.
    pub fn why_unusable(&self, name: &str) -> Option<&str> {
        self.unusable.iter().find(|unusable| unusable.name == name).map(|unusable| unusable.reason.as_str())
    }

    /// Every logical volume of that name, with its group: names are unique only within a group.
    pub fn logical_volumes<'s>(
        &'s self,
        name: &'s str,
    ) -> impl Iterator<Item = (&'s Arc<VolumeGroup>, &'s Arc<LogicalVolume>)> {
        self.groups.iter().filter_map(move |group| group.logical_volume(name).map(|volume| (group, volume)))
    }
}

/// Reads the volume groups, and remembers what need not be read again.
pub struct Groups {
    pub(super) commands: Arc<dyn Commands>,
    kernel: Arc<dyn Kernel>,
    /// How many reads have begun.
    begun: AtomicU64,
    state: Mutex<State>,
}

struct State {
    scanner: Scanner,
    memory: Memory,
    /// The last read: its number in `begun`, and what it found.
    last: Option<(u64, Arc<View>)>,
}

impl Groups {
    /// Nothing is read yet. `commands` serves [`Groups::compare`] and [`Groups::learn_system_id`] only.
    pub fn new(kernel: Arc<dyn Kernel>, commands: Arc<dyn Commands>) -> Self {
        let scanner = Scanner::new(Arc::clone(&kernel));
        let state = Mutex::new(State { scanner, memory: Memory::default(), last: None });
        Self { commands, kernel, begun: AtomicU64::new(0), state }
    }

    /// Asks lvm which groups with a system id are this machine's own; until then all of them count as another's.
    pub async fn learn_system_id(&self) -> Result<()> {
        let own = system_id::own(&*self.commands).await?;
        self.state.lock().await.memory.own_system = own;
        Ok(())
    }

    /// The groups as they are now: what was committed before the call is in it. Where nothing changed
    /// this costs one batched read of 8 KiB per device. Callers who wait together share a read, but only
    /// one that began after they had asked.
    pub async fn read(&self) -> Result<Arc<View>> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut state = self.state.lock().await;
        if let Some((number, view)) = &state.last
            && *number > asked
        {
            return Ok(Arc::clone(view));
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let devices = self.kernel.block_devices().await;
        let devices = devices.map_err(|source| Error::kernel("listing the block devices", source))?;
        let State { scanner, memory, last } = &mut *state;
        let scan = scanner.scan(devices).await;
        let view = Arc::new(memory.view(&scan));
        *last = Some((number, Arc::clone(&view)));
        Ok(view)
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
