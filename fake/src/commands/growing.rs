//! `lvextend`.

use super::{Activation, Ended, bytes, not_found, refused, split};
use crate::cow;
use crate::disk_format::EXTENT;
use crate::lvm::{Kind, data_name, metadata_name};
use crate::machine::Machine;

impl Machine {
    /// To so many extents of the volume itself, or bytes of a pool's metadata.
    pub(super) fn lvextend(&mut self, what: &str, size: &str, full_name: &str, activation: Activation) -> Ended {
        let (group, name) = split(full_name);
        let Some(volume) = self.volume(group, name).cloned() else { return not_found() };
        let is_pool = matches!(volume.kind, Kind::Pool(_));
        if is_pool {
            self.ensure_reachable(group, name, activation)?;
        }
        let extents: usize = match what {
            "--extents" => size.parse().unwrap(),
            "--poolmetadatasize" if is_pool => {
                let extents = bytes(size).div_ceil(EXTENT);
                self.grow_disks(group, &metadata_name(name), extents)?;
                self.grow_spare(group, extents)?;
                self.committed(group)?;
                self.reload(group, name);
                return Ok(());
            }
            _ => panic!("lvextend {what} {size} {full_name}"),
        };
        let most = volume.origin().map_or(usize::MAX, |_| cow::most(volume.shown_extents()));
        let extents = extents.min(most);
        if extents <= volume.extents() {
            return refused("New size not larger than existing size");
        }
        if self.minor(group, name).is_some() && self.group(group).unwrap().snapshots_of(name).next().is_some() {
            return refused("Snapshot origin volumes can be resized only while inactive: try lvchange -an.");
        }
        match &volume.kind {
            Kind::Pool(_) => {
                self.grow_disks(group, &data_name(name), extents)?;
                self.group_mut(group).unwrap().pool_mut(name).unwrap().extents = extents;
            }
            Kind::Thin(_) => {
                if let Kind::Thin(thin) = &mut self.group_mut(group).unwrap().volume_mut(name).unwrap().kind {
                    thin.extents = extents;
                }
            }
            _ => self.grow_disks(group, name, extents)?,
        }
        self.committed(group)?;
        self.reload(group, name);
        Ok(())
    }

    fn grow_disks(&mut self, group: &str, name: &str, extents: usize) -> Ended {
        let there = self.volume(group, name).unwrap().extents();
        if extents <= there {
            return refused("New size not larger than existing size");
        }
        let Some(more) = self.group(group).unwrap().allocate(extents - there) else {
            return refused("Insufficient free space");
        };
        self.group_mut(group).unwrap().volume_mut(name).unwrap().segments.extend(more);
        Ok(())
    }
}
