//! What users do with volumes in a real Kubernetes. All tests share one cluster, each in a namespace of its own, and each
//! proves at its end that nothing of its volumes is left.

#![allow(clippy::unwrap_used)]

mod access;
mod burst;
mod first_volume;
mod groups;
mod growth;
mod placement;
mod retention;
mod security;
mod shared;
mod snapshots;
mod workloads;
