//! Reading labels, headers and texts from all devices, in as few and as small reads as possible.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::assemble::Found;
use super::look::{Known, Look, Sight};
use crate::host::kernel::{BlockDevice, Kernel};

/// How often a device is read while its checksums do not fit, and the pause before the first repetition,
/// which doubles from then on. lvm writes a header within microseconds, a large text within milliseconds.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// What all devices say.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every device that could carry a physical volume, whether or not it could be read.
    pub(super) listed: HashSet<BlockDevice>,
    /// Devices that do, by their paths.
    pub(super) found: Vec<Found>,
    /// Devices that could not be read, and why.
    pub(super) unreadable: Vec<(BlockDevice, String)>,
}

pub(super) struct Scanner {
    kernel: Arc<dyn Kernel>,
    known: HashMap<BlockDevice, Known>,
}

impl Scanner {
    pub(super) fn new(kernel: Arc<dyn Kernel>) -> Self {
        Self { kernel, known: HashMap::new() }
    }

    /// Reads all devices that may carry a physical volume.
    pub(super) async fn scan(&mut self, mut devices: Vec<BlockDevice>) -> Scan {
        devices.retain(may_carry_a_volume);
        devices.sort_by(|one, other| one.path.cmp(&other.path));
        let listed: HashSet<_> = devices.iter().cloned().collect();
        self.known.retain(|device, _| listed.contains(device));

        let mut sights: HashMap<BlockDevice, Sight> = HashMap::new();
        let mut waiting = devices.clone();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(FIRST_PAUSE * 2_u32.pow(attempt - 1)).await;
            }
            let looks = Look::at(&waiting, &mut self.known, &*self.kernel).await;
            let mut torn = Vec::new();
            for (device, look) in waiting.into_iter().zip(looks) {
                let known = self.known.entry(device.clone()).or_default();
                // What is damaged for good costs its repetitions once, not at every scan.
                if look.torn.is_none() {
                    known.damaged = None;
                } else if known.damaged != look.torn {
                    torn.push(device.clone());
                    if attempt + 1 == ATTEMPTS {
                        known.damaged = look.torn;
                    }
                }
                sights.insert(device, look.sight);
            }
            if torn.is_empty() {
                break;
            }
            waiting = torn;
        }

        let mut scan = Scan { listed, ..Scan::default() };
        for device in devices {
            match sights.remove(&device) {
                Some(Sight::Volume { uuid, areas }) => scan.found.push(Found { device, uuid, areas }),
                Some(Sight::Unreadable(reason)) => scan.unreadable.push((device, reason)),
                Some(Sight::Nothing) | None => {}
            }
        }
        scan
    }
}

/// LVM's own volumes, and devices beneath others, are never read: what is found on them belongs to a
/// guest or to the device above.
fn may_carry_a_volume(device: &BlockDevice) -> bool {
    let is_logical_volume = device.mapper_uuid.as_ref().is_some_and(|uuid| uuid.starts_with("LVM-"));
    device.size > 0 && !device.is_component && !is_logical_volume
}
