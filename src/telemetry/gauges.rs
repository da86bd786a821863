//! What is measured when somebody asks, so that it is never stale: a volume group that is gone leaves no series behind.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as AnyGauge;
use prometheus_client::registry::{Registry, Unit};

use super::metrics::PREFIX;

type Gauge = AnyGauge<u64, AtomicU64>;

/// The state of the machine at one moment. What is empty or unset is not reported at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    pub volume_groups: Vec<VolumeGroupGauges>,
    pub thin_pools: Vec<ThinPoolGauges>,
    /// How many volumes there are, by class.
    pub volumes: BTreeMap<String, u64>,
    /// The volumes that are being copied.
    pub copies: Vec<CopyGauges>,
    pub wipes_pending: Option<u64>,
    pub stuck_commands: Option<u64>,
    /// 1 while the classes file is refused and older classes stay in force.
    pub classes_refused: Option<u64>,
    /// When the certificate of this process expires, seconds since 1970; unset while there is none.
    pub certificate_expires: Option<u64>,
    /// What a controller sees.
    pub controller: Option<ControllerGauges>,
}

/// What a controller sees of its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerGauges {
    /// Nodes with the driver.
    pub nodes: u64,
    /// Those of them whose last call was answered, or that were not called yet.
    pub nodes_reachable: u64,
    /// Calls under way to nodes.
    pub forwards_in_flight: u64,
    /// Volumes that nobody names; unset before the first look, and without Kubernetes.
    pub orphans: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeGroupGauges {
    pub volume_group: String,
    pub size_bytes: u64,
    pub free_bytes: u64,
    pub metadata_free_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThinPoolGauges {
    pub volume_group: String,
    pub thin_pool: String,
    /// What the kernel tells of it, if it does.
    pub data_bytes: Option<u64>,
    pub data_used_bytes: Option<u64>,
    pub metadata_bytes: Option<u64>,
    pub metadata_used_bytes: Option<u64>,
    /// The sizes of all volumes and snapshots in it.
    pub promised_bytes: u64,
    /// What may be promised.
    pub limit_bytes: u64,
    /// What is wrong with it, in one word.
    pub trouble: Option<&'static str>,
}

/// How far a copy is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyGauges {
    /// The logical volume that is made.
    pub volume: String,
    /// Its class.
    pub class: String,
    /// Bytes that are copied.
    pub done_bytes: u64,
    /// Bytes that are copied in the end.
    pub bytes: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CopyLabels {
    volume: String,
    class: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VolumeGroupLabels {
    volume_group: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ThinPoolLabels {
    volume_group: String,
    thin_pool: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TroubleLabels {
    volume_group: String,
    thin_pool: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClassLabels {
    class: String,
}

/// A gauge of volume groups: its name, its help, and where its value is.
type VolumeGroupGauge = (&'static str, &'static str, fn(&VolumeGroupGauges) -> u64);

const VOLUME_GROUP_GAUGES: [VolumeGroupGauge; 3] = [
    ("volume_group_size", "Size of the volume group", |group| group.size_bytes),
    ("volume_group_free", "Room in the volume group that no logical volume takes", |group| group.free_bytes),
    ("volume_group_metadata_free", "Room for LVM's own metadata; without it no change is possible", |group| {
        group.metadata_free_bytes
    }),
];

/// The same of thin pools.
type ThinPoolGauge = (&'static str, &'static str, fn(&ThinPoolGauges) -> Option<u64>);

const THIN_POOL_GAUGES: [ThinPoolGauge; 6] = [
    ("thin_pool_data", "Size of the thin pool's data", |pool| pool.data_bytes),
    ("thin_pool_data_used", "What of it is in use", |pool| pool.data_used_bytes),
    ("thin_pool_metadata", "Size of the thin pool's metadata", |pool| pool.metadata_bytes),
    ("thin_pool_metadata_used", "What of it is in use", |pool| pool.metadata_used_bytes),
    ("thin_pool_promised", "Sizes of all volumes and snapshots in the thin pool", |pool| Some(pool.promised_bytes)),
    ("thin_pool_limit", "What may be promised of the thin pool", |pool| Some(pool.limit_bytes)),
];

impl Gauges {
    /// A registry of this moment only. Shared ones would let two scrapes mix their values.
    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        for (name, help, value) in VOLUME_GROUP_GAUGES {
            let family = Family::<VolumeGroupLabels, Gauge>::default();
            for group in &self.volume_groups {
                let labels = VolumeGroupLabels { volume_group: group.volume_group.clone() };
                family.get_or_create(&labels).set(value(group));
            }
            registry.register_with_unit(name, help, Unit::Bytes, family);
        }
        self.register_thin_pools(&mut registry);
        let volumes = Family::<ClassLabels, Gauge>::default();
        for (class, count) in &self.volumes {
            let labels = ClassLabels { class: class.clone() };
            volumes.get_or_create(&labels).set(*count);
        }
        registry.register("volumes", "Volumes by class", volumes);
        self.register_copies(&mut registry);
        let single = [
            ("wipes_pending", "Deleted volumes whose data is still to be wiped", self.wipes_pending),
            ("stuck_commands", "Commands that take far longer than they should", self.stuck_commands),
            (
                "classes_refused",
                "1 while the classes file is refused and older ones stay in force",
                self.classes_refused,
            ),
            (
                "certificate_expires_timestamp_seconds",
                "When the certificate of this process expires",
                self.certificate_expires,
            ),
        ];
        let controller = self.controller.as_ref();
        let of_controller = [
            ("nodes", "Nodes with the driver", controller.map(|controller| controller.nodes)),
            (
                "nodes_reachable",
                "Nodes whose last call was answered, or that were not called yet",
                controller.map(|controller| controller.nodes_reachable),
            ),
            (
                "forwards_in_flight",
                "Calls under way to nodes",
                controller.map(|controller| controller.forwards_in_flight),
            ),
            (
                "orphans",
                "Volumes on nodes that can be reached that no PersistentVolume names",
                controller.and_then(|controller| controller.orphans),
            ),
        ];
        for (name, help, value) in single.into_iter().chain(of_controller) {
            if let Some(value) = value {
                let gauge = Gauge::default();
                gauge.set(value);
                registry.register(name, help, gauge);
            }
        }
        registry
    }

    fn register_thin_pools(&self, registry: &mut Registry) {
        for (name, help, value) in THIN_POOL_GAUGES {
            let family = Family::<ThinPoolLabels, Gauge>::default();
            for pool in &self.thin_pools {
                let labels =
                    ThinPoolLabels { volume_group: pool.volume_group.clone(), thin_pool: pool.thin_pool.clone() };
                if let Some(value) = value(pool) {
                    family.get_or_create(&labels).set(value);
                }
            }
            registry.register_with_unit(name, help, Unit::Bytes, family);
        }
        let troubles = Family::<TroubleLabels, Gauge>::default();
        for pool in &self.thin_pools {
            let Some(reason) = pool.trouble else { continue };
            let (volume_group, thin_pool) = (pool.volume_group.clone(), pool.thin_pool.clone());
            troubles.get_or_create(&TroubleLabels { volume_group, thin_pool, reason }).set(1);
        }
        registry.register("thin_pool_trouble", "1 while something is wrong with the thin pool", troubles);
    }

    fn register_copies(&self, registry: &mut Registry) {
        let [done, all] = [(); 2].map(|()| Family::<CopyLabels, Gauge>::default());
        for copy in &self.copies {
            let labels = CopyLabels { volume: copy.volume.clone(), class: copy.class.clone() };
            done.get_or_create(&labels).set(copy.done_bytes);
            all.get_or_create(&labels).set(copy.bytes);
        }
        registry.register_with_unit("copy_done", "What is copied of a volume that is being made", Unit::Bytes, done);
        registry.register_with_unit("copy", "What is copied of it in the end", Unit::Bytes, all);
    }
}
