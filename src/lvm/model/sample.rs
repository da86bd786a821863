//! Volume groups for tests; a test that needs one otherwise takes it by `..group(…)`.

use std::path::PathBuf;

use super::{LogicalVolume, MetadataArea, PhysicalVolume, Pool, VolumeGroup};

/// A sound group without logical volumes, on physical volumes `pv0`, `pv1`… of so many extents, in all and free.
pub(crate) fn group(name: &str, extents_and_free: &[(u64, u64)]) -> VolumeGroup {
    let physical_volumes = (0..).zip(extents_and_free).map(|(index, (extents, free_extents))| PhysicalVolume {
        name: format!("pv{index}"),
        uuid: format!("pv{index}-uuid"),
        device: Some(PathBuf::from(format!("/dev/x{index}"))),
        extents: *extents,
        free_extents: *free_extents,
        allocatable: true,
    });
    VolumeGroup {
        name: name.to_owned(),
        uuid: format!("{name}-uuid"),
        seqno: 1,
        extent_bytes: 4 << 20,
        status: ["RESIZEABLE", "READ", "WRITE"].map(String::from).to_vec(),
        system_id: None,
        lock_type: None,
        tags: Vec::new(),
        physical_volumes: physical_volumes.collect(),
        logical_volumes: Vec::new(),
        metadata_area: MetadataArea { size: 1 << 20, used: 1 << 10 },
    }
}

/// A logical volume without anything but a name and a size; a test that needs one otherwise takes it by `..volume(…)`.
pub(crate) fn volume(name: &str, extents: u64) -> LogicalVolume {
    LogicalVolume {
        name: name.to_owned(),
        uuid: String::new(),
        extents,
        created: None,
        status: Vec::new(),
        tags: Vec::new(),
        segment_types: Vec::new(),
        on_physical_volumes: Vec::new(),
        snapshot_of: Vec::new(),
        pool: None,
        thin: None,
    }
}

/// A thin pool of that name with so many extents of data, which has no volumes yet; its metadata is `NAME_tmeta`.
pub(crate) fn pool(name: &str, extents: u64) -> LogicalVolume {
    let pool = Pool {
        metadata: format!("{name}_tmeta"),
        data: format!("{name}_tdata"),
        chunk_bytes: 65_536,
        zeroes: true,
        fails_when_full: true,
        transaction_id: 0,
        is_pending: false,
    };
    LogicalVolume { pool: Some(pool), ..volume(name, extents) }
}
