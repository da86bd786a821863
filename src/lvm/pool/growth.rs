//! When a pool grows, and how far.

use super::{LEAST_METADATA, MOST_METADATA, PoolRules, spare};
use crate::host::kernel::PoolStatus;
use crate::lvm::model::{LogicalVolume, VolumeGroup};

/// Bytes of a block of metadata.
pub const METADATA_BLOCK: u64 = 4_096;
/// Blocks of metadata that are left when they run out, where a quarter of them is not less.
const METADATA_LEFT: u64 = 1_024;

/// What a pool needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// Nothing.
    NotDue,
    /// To be grown to so many extents in all; what is not to grow keeps its size.
    To {
        /// Of metadata, which grows first: the other way round it could fill in between.
        metadata: u64,
        /// Of data.
        data: u64,
    },
    /// To grow, but there is no room for it.
    NoRoom,
}

/// How much of the whole is in use, in whole per cent, rounded up.
pub fn percent(used: u64, total: u64) -> u64 {
    u64::try_from((u128::from(used) * 100).div_ceil(u128::from(total.max(1)))).unwrap_or(u64::MAX)
}

/// Whether a pool is at its mark.
pub fn is_due(rules: &PoolRules, status: &PoolStatus) -> bool {
    rules.grow_at < 100 && (is_data_due(rules, status) || is_metadata_due(rules, status))
}

/// What the pool needs, if so many extents of its group may be taken for it.
pub fn growth(
    rules: &PoolRules,
    group: &VolumeGroup,
    there: &LogicalVolume,
    status: &PoolStatus,
    usable: u64,
) -> Growth {
    let Some(pool) = there.pool.as_ref().filter(|_| rules.grow_at < 100) else { return Growth::NotDue };
    let (data, metadata) = (there.extents, group.logical_volume(&pool.metadata).map_or(0, |volume| volume.extents));
    let (is_data_due, is_metadata_due) = (is_data_due(rules, status), is_metadata_due(rules, status));
    let more = |extents: u64| share(extents, rules.grow_by);
    let wanted_data = if is_data_due { data.saturating_add(more(data)) } else { data };
    let promised = rules.metadata_extents(wanted_data, pool.chunk_bytes, group.extent_bytes);
    let due = metadata.saturating_add(more(metadata).max(LEAST_METADATA.div_ceil(group.extent_bytes)));
    let wanted = if is_metadata_due { promised.max(due) } else { promised };
    let most = MOST_METADATA.div_ceil(group.extent_bytes).max(metadata);
    let wanted_metadata = wanted.clamp(metadata, most);
    // The spare is always as large as the largest metadata of the group.
    let spare = spare(group);
    let cost = |to: u64| (to - metadata).saturating_add(to.saturating_sub(spare.max(metadata)));
    let new_metadata = (metadata..=wanted_metadata).rev().find(|to| cost(*to) <= usable).unwrap_or(metadata);
    let left = usable - cost(new_metadata);
    let new_data = data + (wanted_data - data).min(left);
    if (new_metadata, new_data) != (metadata, data) {
        Growth::To { metadata: new_metadata, data: new_data }
    } else if is_data_due || (is_metadata_due && metadata < most) {
        Growth::NoRoom
    } else {
        Growth::NotDue
    }
}

/// Whether the kernel works with less than lvm has given the pool.
pub fn is_behind(group: &VolumeGroup, there: &LogicalVolume, status: &PoolStatus) -> bool {
    let Some(pool) = &there.pool else { return false };
    let metadata = group.logical_volume(&pool.metadata).map_or(0, |volume| volume.extents);
    let bytes = |extents: u64| extents.saturating_mul(group.extent_bytes);
    status.total_data < bytes(there.extents) / pool.chunk_bytes
        || status.total_metadata < bytes(metadata).min(MOST_METADATA) / METADATA_BLOCK
}

fn is_data_due(rules: &PoolRules, status: &PoolStatus) -> bool {
    percent(status.used_data, status.total_data) >= u64::from(rules.grow_at)
}

fn is_metadata_due(rules: &PoolRules, status: &PoolStatus) -> bool {
    percent(status.used_metadata, status.total_metadata) >= u64::from(rules.grow_at) || metadata_runs_out(status)
}

/// Whether so little metadata is left that the kernel tells of it (`calc_metadata_threshold`, the only mark that it has of them)
/// and lvm makes nothing more in the pool (`pool_metadata_min_threshold`).
pub fn metadata_runs_out(status: &PoolStatus) -> bool {
    let left = status.total_metadata.saturating_sub(status.used_metadata);
    left <= METADATA_LEFT.min(status.total_metadata / 4)
}

fn share(extents: u64, percent: u8) -> u64 {
    u64::try_from((u128::from(extents) * u128::from(percent)).div_ceil(100)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::host::kernel::PoolMode;
    use crate::lvm::model::sample::{self, volume};

    const EXTENT: u64 = 4 << 20;

    fn rules() -> PoolRules {
        PoolRules::default()
    }

    /// A group with a pool of so many extents of data and metadata.
    fn group(data: u64, metadata: u64) -> VolumeGroup {
        let mut group = sample::group("vg", &[(1 << 20, 1 << 19)]);
        let volumes = [sample::pool("pool", data), volume("pool_tmeta", metadata), volume("lvol0_pmspare", metadata)];
        group.logical_volumes = volumes.map(Arc::new).to_vec();
        group
    }

    fn status(used_data: u64, data: u64, used_metadata: u64, metadata: u64) -> PoolStatus {
        PoolStatus {
            mode: PoolMode::Writable,
            needs_check: false,
            transaction_id: 0,
            low_water: 1,
            used_data,
            total_data: data * (EXTENT >> 16),
            used_metadata,
            total_metadata: metadata * (EXTENT >> 12),
            metadata_snapshot: None,
        }
    }

    fn needed(rules: &PoolRules, group: &VolumeGroup, status: &PoolStatus, usable: u64) -> Growth {
        growth(rules, group, &group.logical_volumes[0], status, usable)
    }

    #[test]
    fn a_pool_grows_by_its_share_at_its_mark_and_no_further_than_it_may() {
        let group = group(1_000, 10);
        let below = status(50_000, 1_000, 0, 10);
        assert_eq!(needed(&rules(), &group, &below, 900), Growth::NotDue);
        let above = status(51_200, 1_000, 0, 10);
        assert_eq!(needed(&rules(), &group, &above, 900), Growth::To { metadata: 10, data: 1_200 });
        assert_eq!(needed(&rules(), &group, &above, 7), Growth::To { metadata: 10, data: 1_007 });
        assert_eq!(needed(&rules(), &group, &above, 0), Growth::NoRoom);
        assert_eq!(needed(&PoolRules { grow_at: 100, ..rules() }, &group, &above, 900), Growth::NotDue);
    }

    #[test]
    fn metadata_grows_with_what_may_be_promised_and_its_spare_with_it() {
        let group = group(100_000, 100);
        let full = status(100_000 << 6, 100_000, 0, 100);
        let metadata = rules().metadata_extents(120_000, 65_536, EXTENT);
        assert!(metadata > 100);
        assert_eq!(needed(&rules(), &group, &full, 90_000), Growth::To { metadata, data: 120_000 });
        assert_eq!(needed(&rules(), &group, &full, 9), Growth::To { metadata: 104, data: 100_001 }, "twice four");
    }

    #[test]
    fn metadata_that_runs_out_grows_by_itself() {
        let group = group(100, 1);
        let quarter_left = status(0, 100, 768, 1);
        assert_eq!(needed(&rules(), &group, &quarter_left, 100), Growth::To { metadata: 2, data: 100 });
        assert_eq!(needed(&rules(), &group, &quarter_left, 1), Growth::NoRoom, "its spare grows, too");
        assert_eq!(needed(&rules(), &group, &status(0, 100, 767, 1), 100), Growth::NotDue);
    }

    #[test]
    fn metadata_that_is_as_large_as_it_can_be_is_not_waited_for() {
        let most = MOST_METADATA.div_ceil(EXTENT);
        let group = group(100, most);
        let full = status(0, 100, most << 10, most);
        assert_eq!(needed(&rules(), &group, &full, 0), Growth::NotDue);
    }

    #[test]
    fn the_kernel_is_behind_when_it_has_less_than_lvm_gave() {
        let group = group(100, 2);
        let is_behind = |status: &PoolStatus| is_behind(&group, &group.logical_volumes[0], status);
        assert!(!is_behind(&status(0, 100, 0, 2)));
        assert!(is_behind(&status(0, 99, 0, 2)));
        assert!(is_behind(&status(0, 100, 0, 1)));
        let largest = MOST_METADATA / METADATA_BLOCK;
        let group = self::group(100, MOST_METADATA.div_ceil(EXTENT) + 9);
        let full = PoolStatus { total_metadata: largest, ..status(0, 100, 0, 1) };
        assert!(!super::is_behind(&group, &group.logical_volumes[0], &full), "the kernel uses no more");
    }

    proptest! {
        #[test]
        fn never_more_is_taken_than_may_be(
            data in 1_u64..1 << 20, metadata in 1_u64..500, used: u32, used_metadata in 0_u64..1 << 20,
            usable in 0_u64..1 << 20, grow_by in 1_u8..=100, overcommit in 100_u64..2_000,
        ) {
            let (group, rules) = (group(data, metadata), PoolRules { overcommit, grow_by, ..rules() });
            let status = status(u64::from(used), data, used_metadata, metadata);
            if let Growth::To { metadata: new_metadata, data: new_data } = needed(&rules, &group, &status, usable) {
                prop_assert!(new_metadata >= metadata && new_data >= data);
                prop_assert!(2 * (new_metadata - metadata) + new_data - data <= usable);
                prop_assert!(new_metadata + new_data > metadata + data);
            }
        }
    }
}
