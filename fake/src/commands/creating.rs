//! `lvcreate`.

use super::{Activation, Ended, bytes, not_found, refused, tag_changes};
use crate::cow::{self, Store};
use crate::disk_format::EXTENT;
use crate::lvm::{Kind, Message, Pool, SPARE, Segment, Thin, data_name, metadata_name};
use crate::machine::{Fault, Machine};
use crate::thin;

/// What is to be made: name, tags.
type New<'n> = (&'n str, &'n [String]);

impl Machine {
    pub(super) fn lvcreate(&mut self, words: &[&str], activation: Activation) -> Ended {
        let [options @ .., "--name", name, target] = words else { panic!("lvcreate {words:?}") };
        let first_tag = options.iter().position(|word| *word == "--addtag").unwrap_or(options.len());
        let (options, tags) = options.split_at(first_tag);
        let tags: Vec<String> = tag_changes(tags)
            .into_iter()
            .map(|(flag, tag)| {
                assert_eq!(flag, "--addtag");
                tag
            })
            .collect();
        let (group, origin) = target.split_once('/').unwrap_or((target, ""));
        match self.group(group) {
            None => return refused("Volume group not found"),
            Some(there) if there.volume(name).is_some() => return refused("Logical volume already exists"),
            Some(there) if !origin.is_empty() && there.volume(origin).is_none() => return not_found(),
            Some(_) => {}
        }
        let new = (*name, tags.as_slice());
        match options {
            ["--activate", "n", "--zero", "n", "--wipesignatures", "n", "--type", "linear", "--extents", extents] => {
                let segments = self.room(group, extents.parse().unwrap())?;
                self.add(group, new, Kind::Plain, segments);
                self.committed(group)
            }
            ["--activate", "n", "--type", "thin", "--virtualsize", size, "--thinpool", pool] => {
                self.make_thin(group, new, (pool, bytes(size).div_ceil(EXTENT), None), activation)
            }
            ["--activate", "n", "--snapshot", "--setactivationskip", "n"] => {
                let Some(thin) = self.volume(group, origin).unwrap().thin().cloned() else {
                    panic!("a snapshot of {target} without a size, which is not thin")
                };
                self.make_thin(group, new, (&thin.pool, thin.extents, Some(origin)), activation)
            }
            ["--snapshot", "--extents", extents] => {
                self.make_thick_snapshot(group, new, origin, extents.parse().unwrap(), activation)
            }
            [
                "--type",
                "thin-pool",
                "--zero",
                "y",
                "--discards",
                "passdown",
                "--poolmetadataspare",
                "y",
                "--extents",
                extents,
                "--poolmetadatasize",
                metadata,
                "--chunksize",
                chunk,
            ] => {
                let sizes = [extents.parse().unwrap(), bytes(metadata).div_ceil(EXTENT), bytes(chunk)];
                self.make_pool(group, new, sizes, activation)
            }
            _ => panic!("lvcreate {words:?}"),
        }
    }

    fn room(&self, group: &str, extents: usize) -> Result<Vec<Segment>, quarry::host::commands::Output> {
        let room = self.group(group).unwrap().allocate(extents);
        room.ok_or_else(|| super::ended(super::LVM_FAILED, "Volume group has insufficient free space"))
    }

    fn add(&mut self, group: &str, (name, tags): New<'_>, kind: Kind, segments: Vec<Segment>) -> u64 {
        let volume = self.make(name, kind, segments, tags);
        let number = volume.number;
        self.group_mut(group).unwrap().volumes.push(volume);
        number
    }

    /// A thin volume, or a thin snapshot where there is an origin.
    fn make_thin(
        &mut self,
        group: &str,
        new: New<'_>,
        (pool, extents, origin): (&str, usize, Option<&str>),
        activation: Activation,
    ) -> Ended {
        let Some(there) = self.group(group).unwrap().pool(pool).cloned() else { return not_found() };
        let number = self.volume(group, pool).unwrap().number;
        let used = self.pools[&number].used() * there.chunk_bytes * 100;
        if activation.mark < 100 && used > activation.mark * there.extents * EXTENT {
            return refused("Cannot create new thin volume, free space in thin pool reached threshold.");
        }
        let ids = self.group(group).unwrap().thin_volumes(pool).map(|(_, thin)| thin.device_id);
        let highest = ids.max().unwrap_or_default();
        if highest == 0 && !activation.waits {
            // With its first volume it is loaded anew, for which lvm checks it.
            return refused("/dev/mapper/vg-pool_tmeta: open failed: No such file or directory");
        }
        self.ensure_reachable(group, pool, activation)?;
        self.ensure_same_transaction(group, pool);
        self.send(group, pool, activation)?;
        let transaction_id = self.pool_in(group, pool).transaction_id;
        let origin_id = origin.and_then(|origin| self.volume(group, origin)?.thin()).map(|thin| thin.device_id);
        if origin_id.is_some_and(|id| !self.pools[&number].has(id)) {
            return refused("device-mapper: message ioctl on failed: No data available");
        }
        let thin = Thin {
            pool: pool.to_owned(),
            device_id: highest + 1,
            transaction_id,
            extents,
            origin: origin.map(str::to_owned),
        };
        let message = Message::Create { volume: new.0.to_owned(), device: thin.device_id, origin: origin_id };
        self.add(group, new, Kind::Thin(thin), Vec::new());
        self.queue(group, pool, message);
        if let Some(origin) = origin.filter(|_| self.fault == Some(Fault::BreaksOff)) {
            self.suspend(group, origin);
        }
        self.committed(group)?;
        self.send(group, pool, activation)?;
        if let Some(origin) = origin {
            self.reload(group, origin);
        }
        Ok(())
    }

    /// First its store is made, a volume like others, and cleared; then it is hung on its origin.
    fn make_thick_snapshot(
        &mut self,
        group: &str,
        new: New<'_>,
        origin: &str,
        extents: usize,
        activation: Activation,
    ) -> Ended {
        let volume = self.volume(group, origin).unwrap();
        assert_eq!(volume.kind, Kind::Plain, "a thick snapshot of {volume:?}");
        let shown = volume.extents();
        if !activation.waits {
            return refused("/dev/vg/snapshot: open failed: No such file or directory");
        }
        let segments = self.room(group, extents.min(cow::most(shown)))?;
        let number = self.add(group, new, Kind::Plain, segments);
        self.committed(group)?;
        let kind = Kind::Snapshot { origin: origin.to_owned(), extents: shown };
        self.group_mut(group).unwrap().volume_mut(new.0).unwrap().kind = kind;
        self.stores.insert(number, Store::default());
        self.committed(group)?;
        if self.minor(group, origin).is_some() {
            self.reload(group, origin);
            self.activate(group, new.0);
        }
        Ok(())
    }

    /// First what will be its metadata is made, a volume of the pool's name and with its tags, and cleared. The very first
    /// commit, in which the spare metadata is still a volume like others, is left out: nobody could say whose it is.
    fn make_pool(
        &mut self,
        group: &str,
        new: New<'_>,
        [extents, metadata, chunk_bytes]: [usize; 3],
        activation: Activation,
    ) -> Ended {
        if !activation.waits {
            return refused("/dev/vg/pool: open failed: No such file or directory");
        }
        let spare = self.volume(group, SPARE).map_or(0, crate::lvm::LogicalVolume::extents);
        self.room(group, extents + metadata + metadata.saturating_sub(spare))?;
        self.grow_spare(group, metadata)?;
        let segments = self.room(group, metadata)?;
        let number = self.add(group, new, Kind::Plain, segments.clone());
        self.committed(group)?;
        let data = self.room(group, extents)?;
        self.add(group, (&metadata_name(new.0), &[]), Kind::Hidden, segments);
        self.add(group, (&data_name(new.0), &[]), Kind::Hidden, data);
        let pool = self.group_mut(group).unwrap().volume_mut(new.0).unwrap();
        pool.segments.clear();
        pool.kind = Kind::Pool(Pool { extents, chunk_bytes, transaction_id: 0, messages: Vec::new() });
        self.pools.insert(number, thin::Pool::new());
        self.load_pool(group, new.0);
        self.committed(group)
    }

    /// The spare metadata of a group is as large as the largest of its pools'.
    pub(super) fn grow_spare(&mut self, group: &str, extents: usize) -> Ended {
        let there = self.volume(group, SPARE).map_or(0, crate::lvm::LogicalVolume::extents);
        let more = self.room(group, extents.saturating_sub(there))?;
        match self.group_mut(group).unwrap().volume_mut(SPARE) {
            Some(spare) => spare.segments.extend(more),
            None => drop(self.add(group, (SPARE, &[]), Kind::Hidden, more)),
        }
        Ok(())
    }
}
