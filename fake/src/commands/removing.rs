//! `lvremove`, and `lvconvert --splitsnapshot`, which takes a snapshot from its origin.

use quarry::lvm::tags::GONE;

use super::{Activation, Ended, not_found, refused, split};
use crate::lvm::{Kind, LogicalVolume, Message, Thin};
use crate::machine::Machine;

impl Machine {
    /// Thin volumes are removed one after the other, in transactions of their pools; all others in one commit.
    pub(super) fn lvremove(&mut self, full_names: &[&str], activation: Activation) -> Ended {
        let (mut ended, mut is_changed) = (Ok(()), false);
        let (group, _) = split(full_names[0]);
        for (other, name) in full_names.iter().map(|full_name| split(full_name)) {
            assert_eq!(group, other, "volumes of several groups are removed at once");
            let Some(volume) = self.volume(group, name).cloned() else {
                ended = not_found();
                continue;
            };
            self.assert_may_be_removed(group, &volume);
            match &volume.kind {
                Kind::Thin(thin) => {
                    self.take_away(group, &volume);
                    let removed = self.remove_thin(group, thin, activation);
                    if removed.as_ref().is_err_and(|output| output.status.is_none()) {
                        return removed;
                    }
                    ended = ended.and(removed);
                }
                Kind::Plain | Kind::Snapshot { .. } => {
                    let snapshots: Vec<LogicalVolume> =
                        self.group(group).unwrap().snapshots_of(name).cloned().collect();
                    snapshots.iter().chain([&volume]).for_each(|gone| self.take_away(group, gone));
                    if let Some(origin) = volume.origin() {
                        self.reload(group, origin);
                    }
                    is_changed = true;
                }
                Kind::Pool(_) | Kind::Hidden => panic!("{volume:?} is removed"),
            }
        }
        if is_changed {
            self.committed(group)?;
        }
        ended
    }

    fn take_away(&mut self, group: &str, volume: &LogicalVolume) {
        if let Some(minor) = self.minor(group, &volume.name) {
            self.devices.remove(&minor);
        }
        self.stores.remove(&volume.number);
        let there = self.group_mut(group).unwrap();
        there.volumes.retain(|other| other.name != volume.name);
        for other in &mut there.volumes {
            if let Kind::Thin(thin) = &mut other.kind
                && thin.origin.as_ref() == Some(&volume.name)
            {
                thin.origin = None;
            }
        }
    }

    fn remove_thin(&mut self, group: &str, thin: &Thin, activation: Activation) -> Ended {
        let reachable = self.ensure_reachable(group, &thin.pool, activation);
        if reachable.is_ok() {
            self.ensure_same_transaction(group, &thin.pool);
        }
        self.queue(group, &thin.pool, Message::Delete(thin.device_id));
        self.committed(group)?;
        reachable?;
        self.send(group, &thin.pool, activation)
    }

    /// A volume that is being deleted, a thin snapshot, or what is left of something that was not made to its end.
    fn assert_may_be_removed(&self, group: &str, volume: &LogicalVolume) {
        let is_broken_off = match &volume.kind {
            Kind::Thin(thin) => self
                .pool_in(group, &thin.pool)
                .messages
                .iter()
                .any(|message| matches!(message, Message::Create { volume: unsent, .. } if *unsent == volume.name)),
            kind => *kind == Kind::Plain && !volume.is_volume(),
        };
        let is_thin_snapshot = volume.thin().is_some() && !volume.is_volume();
        let is_free = volume.is_deleting() || volume.has_tag(GONE) || is_thin_snapshot || is_broken_off;
        assert!(volume.is_quarrys() && is_free, "{volume:?} is removed");
        let minor = self.minor(group, &volume.name);
        let is_open = minor.is_some_and(|minor| self.open_count(minor) > 0);
        assert!(!is_open, "{volume:?} is removed while it is open");
    }

    pub(super) fn split_snapshot(&mut self, full_name: &str) -> Ended {
        let (group, name) = split(full_name);
        let Some(volume) = self.volume(group, name).cloned() else { return not_found() };
        let Some(origin) = volume.origin() else { return refused("Command not permitted on LV") };
        // What it kept goes on being read until its device is loaded anew.
        self.group_mut(group).unwrap().volume_mut(name).unwrap().kind = Kind::Plain;
        self.committed(group)?;
        self.reload(group, origin);
        self.reload(group, name);
        Ok(())
    }
}
