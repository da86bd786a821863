use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::lvm::model::ThinVolume;
use crate::lvm::model::sample::{self, volume};

/// 4 MiB extents.
const GIB: u64 = 256;

fn rules() -> PoolRules {
    PoolRules::default()
}

fn with_pool(data: u64, promised: &[u64]) -> VolumeGroup {
    let mut group = sample::group("vg", &[(100 * GIB, 10 * GIB)]);
    let mut volumes = vec![sample::pool(DEFAULT_NAME, data)];
    let thin = |pool: &str| Some(ThinVolume { pool: pool.to_owned(), device_id: 1, origin: None, is_unsent: false });
    volumes.extend(promised.iter().map(|extents| LogicalVolume { thin: thin(DEFAULT_NAME), ..volume("t", *extents) }));
    volumes.push(LogicalVolume { thin: thin("other"), ..volume("elsewhere", GIB) });
    volumes.push(volume("thick", GIB));
    group.logical_volumes = volumes.into_iter().map(Arc::new).collect();
    group
}

#[test]
fn a_pool_takes_what_the_class_may_use_with_its_metadata_twice() {
    let group = sample::group("vg", &[(100 * GIB, 100 * GIB)]);
    let size = rules().new_pool(&group, 100 * GIB).unwrap();
    // 64 bytes for each 64 KiB: a thousandth.
    assert_eq!((size.metadata, size.spare, size.chunk_bytes), (25, 25, 65_536));
    assert_eq!(size.extents(), 100 * GIB);
    let half = PoolRules { size: Portion::Share(5_000), ..rules() };
    assert_eq!(half.new_pool(&group, 100 * GIB).unwrap().extents(), 50 * GIB);
    let fixed = PoolRules { size: Portion::Bytes(10 << 30), ..rules() };
    let size = fixed.new_pool(&group, 100 * GIB).unwrap();
    assert_eq!((size.data, size.metadata), (10 * GIB, 3));
    assert_eq!(fixed.new_pool(&group, 10 * GIB), None, "no room for its metadata");
    assert_eq!(rules().new_pool(&group, 2), None);
}

#[test]
fn metadata_is_for_all_that_may_be_promised_and_a_spare_that_is_there_counts() {
    let mut group = sample::group("vg", &[(100 * GIB, 100 * GIB)]);
    group.logical_volumes.push(Arc::new(volume("lvol0_pmspare", 20)));
    let size = PoolRules { size: Portion::Bytes(10 << 30), overcommit: 1_000, ..rules() }.new_pool(&group, 100 * GIB);
    assert_eq!(size.map(|size| (size.metadata, size.spare)), Some((25, 5)));
    let said = PoolRules { size: Portion::Bytes(10 << 30), metadata_bytes: Some(64 << 20), ..rules() };
    assert_eq!(said.new_pool(&group, 100 * GIB).map(|size| (size.metadata, size.spare)), Some((16, 0)));
}

#[test]
fn a_huge_pool_has_larger_pieces() {
    let group = sample::group("vg", &[(100 << 18, 100 << 18)]);
    let size = rules().new_pool(&group, 100 << 18).unwrap();
    assert_eq!(size.chunk_bytes, 512 << 10, "100 TiB");
    assert!(size.metadata * group.extent_bytes <= MOST_METADATA + group.extent_bytes);
}

#[test]
fn room_is_the_limit_without_what_is_promised() {
    let group = with_pool(10 * GIB, &[GIB, 2 * GIB]);
    assert_eq!(room(&group, &rules(), 0), Ok(7 * GIB));
    assert_eq!(room(&group, &PoolRules { overcommit: 250, ..rules() }, 0), Ok(22 * GIB));
    assert_eq!(room(&with_pool(GIB, &[2 * GIB]), &rules(), 0), Ok(0));
}

#[test]
fn pieces_larger_than_an_extent_count_as_a_whole() {
    let mut group = with_pool(100, &[1, 1]);
    Arc::make_mut(&mut group.logical_volumes[0]).pool.as_mut().unwrap().chunk_bytes = 8 * group.extent_bytes;
    assert_eq!(room(&group, &rules(), 0), Ok(80), "100 are promised by 8 each, two times 8 are");
}

#[test]
fn a_pool_that_is_none_or_shows_old_data_or_hangs_when_full_has_no_room() {
    let mut group = with_pool(GIB, &[]);
    assert!(
        room(&group, &PoolRules { name: String::from("thick"), ..rules() }, 9).unwrap_err().contains("no thin pool")
    );
    Arc::make_mut(&mut group.logical_volumes[0]).pool.as_mut().unwrap().zeroes = false;
    assert!(room(&group, &rules(), 9).unwrap_err().contains("lvchange --zero y vg/quarry-thin"));
    let mut group = with_pool(GIB, &[]);
    Arc::make_mut(&mut group.logical_volumes[0]).pool.as_mut().unwrap().fails_when_full = false;
    assert!(room(&group, &rules(), 9).unwrap_err().contains("lvchange --errorwhenfull y vg/quarry-thin"));
    let empty = sample::group("vg", &[(1, 1)]);
    assert!(room(&empty, &rules(), 1).unwrap_err().contains("not made yet"));
}

proptest! {
    #[test]
    fn a_new_pool_takes_no_more_than_it_may_and_one_extent_more_would(
        usable in 0_u64..1 << 30, share in 1_u64..=10_000, overcommit in 100_u64..=5_000,
    ) {
        let group = sample::group("vg", &[(1 << 30, 1 << 30)]);
        let rules = PoolRules { size: Portion::Share(share), overcommit, ..rules() };
        let most = rules.size.whole_extents(usable, group.extent_bytes);
        match rules.new_pool(&group, usable) {
            Some(size) => {
                prop_assert!(size.extents() <= most);
                prop_assert!(rules.sized(size.data + 1, group.extent_bytes, 0).extents() > most);
            }
            None => prop_assert!(rules.sized(1, group.extent_bytes, 0).extents() > most),
        }
    }
}
