//! Everything that speaks LVM: reading the metadata from the physical volumes, running lvm commands,
//! tags, names and the arithmetic of layouts. Knows no CSI and no Kubernetes.

pub mod area;
pub mod backup;
pub mod checksum;
pub mod groups;
pub mod label;
pub mod layout;
pub mod mappings;
pub mod metadata;
pub mod model;
pub mod names;
pub mod pool;
pub mod portion;
pub mod report;
pub mod size;
pub mod system_folder;
pub mod system_id;
pub mod tags;
pub mod text;
pub mod volume_id;
pub mod wipe;
pub mod writer;
