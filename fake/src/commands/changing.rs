//! `lvchange`: devices and tags.

use super::{Activation, Ended, not_found, refused, split, tag_changes};
use crate::lvm::{Kind, Thin};
use crate::machine::Machine;

impl Machine {
    pub(super) fn make_active(&mut self, full_name: &str, activation: Activation) -> Ended {
        let (group, name) = split(full_name);
        let Some(volume) = self.volume(group, name).cloned() else { return not_found() };
        match &volume.kind {
            Kind::Plain => self.activate_with_snapshots(group, name),
            Kind::Snapshot { origin, .. } => self.activate_with_snapshots(group, origin),
            Kind::Thin(thin) => {
                self.ensure_reachable(group, &thin.pool, activation)?;
                self.ensure_same_transaction(group, &thin.pool);
                if !self.pool_of(group, thin).has(thin.device_id) {
                    // What was committed, but not sent, is not sent now.
                    return refused("device-mapper: reload ioctl on failed: No data available");
                }
                self.activate(group, name);
            }
            Kind::Pool(_) => {
                self.ensure_reachable(group, name, activation)?;
                self.load_pool(group, name);
                self.pools.get_mut(&volume.number).unwrap().is_kept_active = true;
            }
            Kind::Hidden => panic!("{full_name} is activated"),
        }
        Ok(())
    }

    /// A thick volume and its snapshots are active together.
    fn activate_with_snapshots(&mut self, group: &str, origin: &str) {
        self.activate(group, origin);
        for snapshot in self.names_of_snapshots(group, origin) {
            self.activate(group, &snapshot);
        }
    }

    pub(super) fn make_inactive(&mut self, full_name: &str) -> Ended {
        let (group, name) = split(full_name);
        let Some(volume) = self.volume(group, name) else { return not_found() };
        match &volume.kind {
            Kind::Snapshot { .. } => return refused("Change of snapshot will also change its origin. Proceed? [y/n]"),
            Kind::Pool(_) => {
                let number = volume.number;
                self.pools.get_mut(&number).unwrap().is_kept_active = false;
                return Ok(());
            }
            _ => {}
        }
        let mut names = self.names_of_snapshots(group, name);
        names.push(name.to_owned());
        let minors: Vec<u32> = names.iter().filter_map(|name| self.minor(group, name)).collect();
        if minors.iter().any(|minor| self.open_count(*minor) > 0) {
            return refused("Logical volume in use");
        }
        self.devices.retain(|minor, _| !minors.contains(minor));
        Ok(())
    }

    fn names_of_snapshots(&self, group: &str, origin: &str) -> Vec<String> {
        self.group(group).unwrap().snapshots_of(origin).map(|snapshot| snapshot.name.clone()).collect()
    }

    /// Loads the table anew and sets the device going. With a thin one the pool's is loaded, and what was not sent yet is
    /// sent; that it was is not committed.
    pub(super) fn refresh(&mut self, full_name: &str) -> Ended {
        let (group, name) = split(full_name);
        let Some(volume) = self.volume(group, name) else { return not_found() };
        if let Some(Thin { pool, .. }) = volume.thin().cloned().filter(|_| self.minor(group, name).is_some()) {
            self.tell_kernel(group, &pool)?;
        }
        self.reload(group, name);
        Ok(())
    }

    /// Of one volume after the other, each with a commit.
    pub(super) fn change_tags(&mut self, words: &[&str]) -> Ended {
        let first_name = words.chunks(2).take_while(|pair| pair[0].starts_with("--")).count() * 2;
        let (changes, full_names) = words.split_at(first_name);
        for full_name in full_names {
            let (group, name) = split(full_name);
            let volume = self.group_mut(group).and_then(|group| group.volume_mut(name));
            let Some(volume) = volume else { return not_found() };
            assert!(volume.is_quarrys(), "the tags of {volume:?} are changed, which is not ours");
            for (flag, tag) in tag_changes(changes) {
                volume.tags.retain(|has| *has != tag);
                if flag == "--addtag" {
                    volume.tags.push(tag);
                }
            }
            self.committed(group)?;
        }
        Ok(())
    }
}
