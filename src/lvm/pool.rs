//! What a thin pool holds, and how much may be promised of it. Pure arithmetic, in extents unless a name says bytes;
//! [`room`] is asked by all that make, grow or copy thin volumes and by `GetCapacity`, so that they agree. [`growth`] is how
//! far a pool itself grows, and when.

pub mod growth;

use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::portion::Portion;
use crate::lvm::tags::KIND_POOL;

/// The logical volume's name of a pool of which the class does not say one.
pub const DEFAULT_NAME: &str = "quarry-thin";

/// Bytes of a pool's metadata for each piece that may be handed out (`thin_metadata_size(8)` reckons so).
const METADATA_PER_CHUNK: u64 = 64;
/// Smallest metadata, bytes.
const LEAST_METADATA: u64 = 4 << 20;
/// Largest metadata that the kernel uses, bytes (`DM_THIN_MAX_METADATA_SIZE`: 255 × 2^14 − 64 pieces of 4 KiB).
const MOST_METADATA: u64 = (255 * (1 << 14) - 64) * 4096;
/// Smallest piece, bytes: of the least waste, and what a discard can give back.
const LEAST_CHUNK: u64 = 64 << 10;
/// Largest piece, bytes.
const MOST_CHUNK: u64 = 1 << 30;
/// The hidden volume that lvm keeps for the repair of any pool of a group.
const SPARE: &str = "_pmspare";

/// What a class asks of its thin pools.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolRules {
    /// The logical volume's name.
    pub name: String,
    /// How large it is made: of what the class may use of the group, metadata included; or bytes of data.
    pub size: Portion,
    /// Bytes of its metadata; as much as the promises may need when not given.
    pub metadata_bytes: Option<u64>,
    /// Bytes of its pieces; as the size makes sensible when not given.
    pub chunk_bytes: Option<u64>,
    /// What may be promised, as hundredths of its data: 100 and more.
    pub overcommit: u64,
    /// Per cent of its data or metadata that must be in use before it grows, 50 to 100; 100 never grows it.
    pub grow_at: u8,
    /// Per cent of itself by which it grows.
    pub grow_by: u8,
}

impl Default for PoolRules {
    fn default() -> Self {
        Self {
            name: String::from(DEFAULT_NAME),
            size: Portion::ALL,
            metadata_bytes: None,
            chunk_bytes: None,
            overcommit: 100,
            grow_at: 80,
            grow_by: 20,
        }
    }
}

/// How large a pool is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Extents of its data.
    pub data: u64,
    /// Extents of its metadata.
    pub metadata: u64,
    /// Extents that the spare metadata of the group grows by.
    pub spare: u64,
    /// Bytes of its pieces.
    pub chunk_bytes: u64,
}

impl PoolSize {
    /// What it takes of the group.
    pub fn extents(self) -> u64 {
        self.data.saturating_add(self.metadata).saturating_add(self.spare)
    }
}

impl PoolRules {
    /// What may be promised of so many extents of data.
    pub fn limit(&self, data: u64) -> u64 {
        u64::try_from(u128::from(data) * u128::from(self.overcommit) / 100).unwrap_or(u64::MAX)
    }

    /// The pool that is made in a group of which so many extents may be used; `None` when they are too few.
    pub fn new_pool(&self, group: &VolumeGroup, usable: u64) -> Option<PoolSize> {
        let spare = spare(group);
        let sized = |data: u64| self.sized(data, group.extent_bytes, spare);
        match self.size {
            Portion::Bytes(bytes) => {
                let size = sized(bytes / group.extent_bytes);
                (size.data > 0 && size.extents() <= usable).then_some(size)
            }
            Portion::Share(_) => {
                let most = self.size.whole_extents(usable, group.extent_bytes);
                // What it takes never shrinks when its data grows.
                let (mut fits, mut too_much) = (0, most.saturating_add(1));
                while too_much - fits > 1 {
                    let middle = fits + (too_much - fits) / 2;
                    if sized(middle).extents() <= most { fits = middle } else { too_much = middle }
                }
                (fits > 0).then(|| sized(fits))
            }
        }
    }

    fn sized(&self, data: u64, extent_bytes: u64, spare: u64) -> PoolSize {
        let mut chunk_bytes = self.chunk_bytes.unwrap_or(LEAST_CHUNK);
        let is_too_much = |chunk_bytes| self.metadata_bytes_for(data, chunk_bytes, extent_bytes) > MOST_METADATA;
        while self.chunk_bytes.is_none() && is_too_much(chunk_bytes) && chunk_bytes < MOST_CHUNK {
            chunk_bytes *= 2;
        }
        let metadata = self.metadata_extents(data, chunk_bytes, extent_bytes);
        PoolSize { data, metadata, spare: metadata.saturating_sub(spare), chunk_bytes }
    }

    /// Extents of metadata that a pool of so many extents of data has at its making.
    fn metadata_extents(&self, data: u64, chunk_bytes: u64, extent_bytes: u64) -> u64 {
        let promised = || self.metadata_bytes_for(data, chunk_bytes, extent_bytes);
        let bytes = self.metadata_bytes.unwrap_or_else(promised);
        bytes.clamp(LEAST_METADATA, MOST_METADATA).div_ceil(extent_bytes)
    }

    /// Bytes of metadata for all that may be promised of so many extents of data.
    fn metadata_bytes_for(&self, data: u64, chunk_bytes: u64, extent_bytes: u64) -> u64 {
        let promised = u128::from(self.limit(data)) * u128::from(extent_bytes);
        let chunks = promised.div_ceil(u128::from(chunk_bytes));
        u64::try_from(chunks * u128::from(METADATA_PER_CHUNK)).unwrap_or(u64::MAX)
    }

    /// What may be promised as a factor, such as `2.5`.
    pub fn overcommit_factor(&self) -> String {
        format!("{}.{:02}", self.overcommit / 100, self.overcommit % 100)
    }
}

/// Extents of the spare metadata that the group has already.
fn spare(group: &VolumeGroup) -> u64 {
    group.logical_volumes.iter().filter(|volume| volume.name.ends_with(SPARE)).map(|volume| volume.extents).sum()
}

/// The extents of all thin volumes in a pool, whoever made them, each in whole pieces of so many bytes.
pub fn promised(group: &VolumeGroup, pool: &str, chunk_bytes: u64) -> u64 {
    let step = step(chunk_bytes, group.extent_bytes);
    let whole = |volume: &LogicalVolume| volume.extents.checked_next_multiple_of(step).unwrap_or(u64::MAX);
    group.in_pool(pool).fold(0, |sum, (volume, _)| sum.saturating_add(whole(volume)))
}

/// Extents of a piece, where pieces are larger than extents.
fn step(chunk_bytes: u64, extent_bytes: u64) -> u64 {
    chunk_bytes.div_ceil(extent_bytes).max(1)
}

/// Extents that can still be promised of the pool of that name; of the one that would be made where there is none. The
/// text says why there are none.
pub fn room(group: &VolumeGroup, rules: &PoolRules, usable: u64) -> Result<u64, String> {
    let Some(there) = group.logical_volume(&rules.name).filter(|there| !is_unmade_pool(there)) else {
        let made = rules.new_pool(group, usable);
        let limit = |size: PoolSize| whole(rules.limit(size.data), step(size.chunk_bytes, group.extent_bytes));
        return made.map(limit).ok_or_else(|| {
            format!("its thin pool {} is not made yet, and there is no room for it ({usable} extents)", rules.name)
        });
    };
    let name = &there.name;
    let Some(pool) = &there.pool else {
        return Err(format!("{name} is a logical volume, but no thin pool; name the pool otherwise (thinPool.name)"));
    };
    if !pool.zeroes {
        return Err(format!(
            "thin pool {name} does not zero what it hands out, so one volume could read another's old data; run \
             lvchange --zero y {}/{name}",
            group.name
        ));
    }
    if !pool.fails_when_full {
        return Err(format!(
            "thin pool {name} holds writes up when it is full, so that whoever writes hangs; run \
             lvchange --errorwhenfull y {}/{name}",
            group.name
        ));
    }
    let step = step(pool.chunk_bytes, group.extent_bytes);
    let left = rules.limit(there.extents).saturating_sub(promised(group, name, pool.chunk_bytes));
    Ok(whole(left, step))
}

/// Whether it is what is left of a pool's making that broke off: of the volume that becomes a pool lvm first makes a plain
/// one, with its tags, to clear it.
pub fn is_unmade_pool(logical: &LogicalVolume) -> bool {
    logical.pool.is_none() && logical.tags.iter().any(|tag| tag == KIND_POOL)
}

fn whole(extents: u64, step: u64) -> u64 {
    extents - extents % step
}

#[cfg(test)]
mod tests;
