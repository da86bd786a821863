//! What was seen earlier: tells a group that was removed from one whose devices are gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::assemble::{Assembly, assemble};
use super::scan::Scan;
use super::{Unreadable, Unusable, View};
use crate::host::kernel::BlockDevice;

/// The groups seen so far, by UUID.
#[derive(Default)]
pub(super) struct Memory {
    assemblies: HashMap<String, Assembly>,
    carriers: HashMap<String, Vec<Carrier>>,
    /// This machine's system id.
    pub(super) own_system: Option<String>,
}

/// A device that carried metadata of a group.
struct Carrier {
    /// The physical volume's UUID.
    uuid: String,
    /// `None` once the device was seen to be gone: another may bear its name and number by now.
    device: Option<BlockDevice>,
}

/// What became of a group that no device tells of any more.
enum Fate {
    /// All devices that carried it are there and free of it.
    Removed,
    /// A device that carried it cannot be read now.
    Unreadable(String),
    /// Devices that carried it are gone.
    Vanished,
}

impl Memory {
    /// Everything known after a scan.
    pub(super) fn view(&mut self, scan: &Scan) -> View {
        let assembled = assemble(&scan.found, &self.assemblies, |volume| self.group_of(volume));
        let mut told: HashSet<&str> = HashSet::new();
        for found in &scan.found {
            told.extend(found.copies().map(|(_, description, _)| description.group.uuid.as_str()));
        }
        let mut view = View { unusable: assembled.unusable, ..View::default() };
        for mut assembly in assembled.groups {
            if self.own_system.is_some() && assembly.group.system_id == self.own_system {
                Arc::make_mut(&mut assembly.group).system_id = None;
            }
            let uuid = assembly.group.uuid.clone();
            view.groups.push(Arc::clone(&assembly.group));
            let mut carriers = carriers(scan, &uuid);
            carriers.extend(self.absent_carriers(&assembly, &carriers, scan));
            self.carriers.insert(uuid.clone(), carriers);
            self.assemblies.insert(uuid, assembly);
        }
        let lost: Vec<String> = self.assemblies.keys().filter(|uuid| !told.contains(uuid.as_str())).cloned().collect();
        for uuid in lost {
            self.settle(&uuid, scan, &mut view);
        }
        view.unusable.sort_by(|one, other| one.name.cmp(&other.name));
        view.vanished.sort_by(|one, other| one.name.cmp(&other.name));
        let silent = scan.found.iter().filter_map(|found| Some((&found.device, found.unreadable()?.to_owned())));
        let unreadable = scan.unreadable.iter().map(|(device, reason)| (device, reason.clone())).chain(silent);
        view.unreadable =
            unreadable.map(|(device, reason)| Unreadable { device: device.path.clone(), reason }).collect();
        view
    }

    /// Those that carried the group earlier, do not now, and still belong to it.
    fn absent_carriers(&mut self, assembly: &Assembly, there: &[Carrier], scan: &Scan) -> Vec<Carrier> {
        let mut earlier = self.carriers.remove(&assembly.group.uuid).unwrap_or_default();
        earlier.retain(|carrier| {
            let is_member = assembly.group.physical_volumes.iter().any(|volume| volume.uuid == carrier.uuid);
            is_member && there.iter().all(|other| other.uuid != carrier.uuid)
        });
        for carrier in &mut earlier {
            carrier.leave_if_gone(scan);
        }
        earlier
    }

    /// The name of the group that a physical volume belonged to when last seen.
    fn group_of(&self, volume: &str) -> Option<String> {
        let mut groups = self.assemblies.values().map(|assembly| &assembly.group);
        let group = groups.find(|group| group.physical_volumes.iter().any(|member| member.uuid == volume))?;
        Some(group.name.clone())
    }

    fn settle(&mut self, uuid: &str, scan: &Scan, view: &mut View) {
        let Some(assembly) = self.assemblies.get(uuid) else { return };
        let fate = fate(self.carriers.get(uuid).map_or(&[][..], Vec::as_slice), scan);
        let name = assembly.group.name.clone();
        match fate {
            Fate::Removed => {
                self.assemblies.remove(uuid);
                self.carriers.remove(uuid);
                return;
            }
            Fate::Unreadable(reason) if view.why_unusable(&name).is_none() => {
                let told = vec![Arc::clone(&assembly.group)];
                view.unusable.push(Unusable { name, reason, told });
            }
            Fate::Unreadable(_) => {}
            Fate::Vanished => view.vanished.push(Arc::clone(&assembly.group)),
        }
        for carrier in self.carriers.get_mut(uuid).into_iter().flatten() {
            carrier.leave_if_gone(scan);
        }
    }
}

impl Carrier {
    fn leave_if_gone(&mut self, scan: &Scan) {
        self.device.take_if(|device| !scan.listed.contains(device));
    }
}

/// The devices that carry metadata of the group.
fn carriers(scan: &Scan, group: &str) -> Vec<Carrier> {
    let carrying = scan.found.iter().filter(|found| found.copies().any(|(_, copy, _)| copy.group.uuid == group));
    carrying.map(|found| Carrier { uuid: found.uuid.clone(), device: Some(found.device.clone()) }).collect()
}

fn fate(carriers: &[Carrier], scan: &Scan) -> Fate {
    let mut all_free = true;
    for carrier in carriers {
        let labelled = scan.found.iter().find(|found| found.uuid == carrier.uuid);
        if let Some(found) = labelled {
            if let Some(reason) = found.unreadable() {
                return Fate::Unreadable(format!(
                    "its metadata on {} cannot be read: {reason}",
                    found.device.path.display()
                ));
            }
            continue;
        }
        let Some(device) = &carrier.device else {
            all_free = false;
            continue;
        };
        if let Some((device, reason)) = scan.unreadable.iter().find(|(unreadable, _)| unreadable == device) {
            return Fate::Unreadable(format!("{}, which carried it, cannot be read: {reason}", device.path.display()));
        }
        all_free &= scan.listed.contains(device);
    }
    if all_free { Fate::Removed } else { Fate::Vanished }
}
