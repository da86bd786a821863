//! What is read and written where: through a device's table, a thin pool's mapping or a thick snapshot's store, down to
//! the disks.

use std::io;

use crate::cow;
use crate::device::Device;
use crate::disk::Disk;
use crate::disk_format::{DATA_START, EXTENT};
use crate::lvm::{Kind, LogicalVolume, Segment, Thin, data_name, metadata_name};
use crate::machine::Machine;
use crate::thin::Content;

/// A stretch of a disk: its name, offset, length.
type Stretch = (String, usize, usize);

impl Machine {
    pub fn bytes_of(&self, minor: u32) -> usize {
        self.devices[&minor].table.shown_extents() * EXTENT
    }

    pub fn read_device(&self, minor: u32, offset: usize, length: usize) -> Vec<u8> {
        let device = self.running(minor);
        self.read_volume(&device.group, &device.table, offset, length)
    }

    pub fn is_zero(&self, minor: u32, offset: usize, length: usize) -> bool {
        self.read_device(minor, offset, length).iter().all(|byte| *byte == 0)
    }

    /// What lies on a volume, active or not.
    pub fn read_volume(&self, group: &str, volume: &LogicalVolume, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= volume.shown_extents() * EXTENT, "{} is read beyond its end", volume.name);
        match &volume.kind {
            Kind::Thin(thin) => self.read_thin(group, thin, offset, length),
            Kind::Snapshot { origin, .. } => self.read_snapshot(group, volume, origin, offset, length),
            _ => self.read_disks(&self.stretches(group, &volume.segments, offset, length)),
        }
    }

    fn read_thin(&self, group: &str, thin: &Thin, offset: usize, length: usize) -> Vec<u8> {
        let (data, pool, chunk) = (self.data(group, thin), self.pool_of(group, thin), self.chunk_bytes(group, thin));
        let mut bytes = Vec::with_capacity(length);
        for (piece, within, count) in pieces(offset, length, chunk) {
            match pool.at(thin.device_id, piece) {
                Some(at) => {
                    let stretches = self.stretches(group, &data, at * chunk + within, count);
                    bytes.extend(self.read_disks(&stretches));
                }
                None => bytes.resize(bytes.len() + count, 0),
            }
        }
        bytes
    }

    fn read_snapshot(
        &self,
        group: &str,
        volume: &LogicalVolume,
        origin: &str,
        offset: usize,
        length: usize,
    ) -> Vec<u8> {
        let store = &self.stores[&volume.number];
        assert!(!store.is_lost, "{} is read, but lost", volume.name);
        let origin = self.volume(group, origin).unwrap();
        let mut bytes = Vec::with_capacity(length);
        for (piece, within, count) in pieces(offset, length, cow::PIECE) {
            let (segments, start) = match store.at(piece) {
                Some(at) => (&volume.segments, at * cow::PIECE),
                None => (&origin.segments, piece * cow::PIECE),
            };
            bytes.extend(self.read_disks(&self.stretches(group, segments, start + within, count)));
        }
        bytes
    }

    pub fn write_device(&mut self, minor: u32, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let Device { group, table, .. } = self.running(minor).clone();
        assert!(offset + bytes.len() <= self.bytes_of(minor), "{} is written beyond its end", table.name);
        match &table.kind {
            Kind::Thin(thin) => self.write_thin(&group, thin, offset, bytes)?,
            Kind::Snapshot { .. } => panic!("{} is a snapshot and is written to", table.name),
            _ => {
                self.keep_for_snapshots(&group, &table, offset, bytes.len());
                self.write_disks(&self.stretches(&group, &table.segments, offset, bytes.len()), bytes);
            }
        }
        Ok(())
    }

    fn write_thin(&mut self, group: &str, thin: &Thin, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let (data, chunk) = (self.data(group, thin), self.chunk_bytes(group, thin));
        let total = self.pool_of(group, thin).loaded.0 * EXTENT / chunk;
        let mut rest = bytes;
        for (piece, within, count) in pieces(offset, bytes.len(), chunk) {
            let provided = self.pool_of_mut(group, thin).provide(thin.device_id, piece, total);
            let provided = provided.ok_or(io::ErrorKind::StorageFull)?;
            let place = |at: usize| self.stretches(group, &data, at * chunk, chunk);
            let mut content = match provided.content {
                Content::There => self.read_disks(&place(provided.at)),
                Content::CopyOf(other) => self.read_disks(&place(other)),
                Content::Zeroes => vec![0; chunk],
            };
            let (now, later) = rest.split_at(count);
            content[within..within + count].copy_from_slice(now);
            self.write_disks(&place(provided.at), &content);
            rest = later;
        }
        Ok(())
    }

    /// Before a volume is overwritten what it holds there goes into the stores of its snapshots, and is flushed.
    fn keep_for_snapshots(&mut self, group: &str, origin: &LogicalVolume, offset: usize, length: usize) {
        let snapshots: Vec<LogicalVolume> = self.group(group).unwrap().snapshots_of(&origin.name).cloned().collect();
        for snapshot in snapshots {
            let (shown, total) = (snapshot.shown_extents() * EXTENT, snapshot.extents() * EXTENT / cow::PIECE);
            for (piece, _, _) in pieces(offset, length, cow::PIECE).filter(|(piece, ..)| piece * cow::PIECE < shown) {
                let Some(at) = self.stores.get_mut(&snapshot.number).unwrap().keep(piece, total) else { continue };
                let held = self.read_volume(group, origin, piece * cow::PIECE, cow::PIECE);
                self.write_disks(&self.stretches(group, &snapshot.segments, at * cow::PIECE, cow::PIECE), &held);
                self.flush_segments(group, &snapshot.segments);
            }
        }
    }

    pub fn zero_device(&mut self, minor: u32, offset: usize, length: usize) -> io::Result<()> {
        let Device { group, table, .. } = self.running(minor).clone();
        if table.kind != Kind::Plain {
            return self.write_device(minor, offset, &vec![0; length]);
        }
        self.keep_for_snapshots(&group, &table, offset, length);
        for (disk, at, count) in self.stretches(&group, &table.segments, offset, length) {
            self.disks.get_mut(&disk).unwrap().zero(at, count);
        }
        Ok(())
    }

    /// A thin volume gives whole pieces back; of another disk the worst is expected, which is that it does nothing.
    pub fn discard_device(&mut self, minor: u32, offset: usize, length: usize) {
        let Device { group, table, .. } = self.running(minor).clone();
        let Some(thin) = table.thin() else { return };
        let chunk = self.chunk_bytes(&group, thin);
        let pieces = offset.div_ceil(chunk)..(offset + length) / chunk;
        self.pool_of_mut(&group, thin).discard(thin.device_id, pieces);
    }

    /// A flush goes down to every disk that the device lies on. That of a thin volume commits what its pool has given out.
    pub fn flush_device(&mut self, minor: u32) {
        let Device { group, table, .. } = self.running(minor).clone();
        match &table.kind {
            Kind::Thin(thin) => self.commit_pool(&group, &thin.pool),
            _ => self.flush_segments(&group, &table.segments),
        }
    }

    /// The kernel commits a pool: its data first, then what is where.
    pub fn commit_pool(&mut self, group: &str, pool: &str) {
        for hidden in [data_name(pool), metadata_name(pool)] {
            let segments = self.volume(group, &hidden).unwrap().segments.clone();
            self.flush_segments(group, &segments);
        }
        let number = self.volume(group, pool).unwrap().number;
        self.pools.get_mut(&number).unwrap().commit();
    }

    fn flush_segments(&mut self, group: &str, segments: &[Segment]) {
        for segment in segments {
            let disk = self.group(group).unwrap().physical_volumes[segment.physical_volume].disk.clone();
            self.disks.get_mut(&disk).map(Disk::flush).unwrap();
        }
    }

    /// Input and output of a suspended device would wait for ever.
    fn running(&self, minor: u32) -> &Device {
        let device = &self.devices[&minor];
        assert!(!device.suspended, "{} is used while it is suspended", device.volume);
        device
    }

    fn data(&self, group: &str, thin: &Thin) -> Vec<Segment> {
        self.volume(group, &data_name(&thin.pool)).unwrap().segments.clone()
    }

    fn chunk_bytes(&self, group: &str, thin: &Thin) -> usize {
        self.group(group).unwrap().pool(&thin.pool).unwrap().chunk_bytes
    }

    fn read_disks(&self, stretches: &[Stretch]) -> Vec<u8> {
        stretches.iter().map(|(disk, at, count)| self.disks[disk].read(*at, *count)).collect::<Vec<_>>().concat()
    }

    fn write_disks(&mut self, stretches: &[Stretch], bytes: &[u8]) {
        let mut rest = bytes;
        for (disk, at, count) in stretches {
            let (now, later) = rest.split_at(*count);
            self.disks.get_mut(disk).unwrap().write(*at, now);
            rest = later;
        }
    }

    /// Where a stretch of these segments lies.
    fn stretches(&self, group: &str, segments: &[Segment], offset: usize, length: usize) -> Vec<Stretch> {
        let volumes = &self.group(group).unwrap().physical_volumes;
        let (mut stretches, mut start) = (Vec::new(), 0);
        for segment in segments {
            let bytes = segment.extents * EXTENT;
            let (from, to) = (offset.max(start), (offset + length).min(start + bytes));
            if from < to {
                let at = DATA_START + segment.start * EXTENT + from - start;
                stretches.push((volumes[segment.physical_volume].disk.clone(), at, to - from));
            }
            start += bytes;
        }
        stretches
    }
}

/// A stretch in pieces of so many bytes: number, start within the piece, bytes.
fn pieces(offset: usize, length: usize, piece: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done;
        let count = (piece - at % piece).min(length - done);
        done += count;
        (count > 0).then_some((at / piece, at % piece, count))
    })
}
