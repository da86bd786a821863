//! Everything that speaks LVM: reading the metadata from the physical volumes, running lvm commands,
//! tags, names and the arithmetic of layouts. Knows no CSI and no Kubernetes.

pub mod area;
pub mod checksum;
pub mod groups;
pub mod label;
pub mod metadata;
pub mod model;
pub mod report;
pub mod text;
