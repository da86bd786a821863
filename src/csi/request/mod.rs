//! Requests of the protocol parsed into typed values, once, before anything is looked up or done.
//! Every refusal names the field as the CSI specification writes it, the value, and what would be right.

pub mod blocks;
pub mod capability;
pub mod create;
pub mod group;
pub mod size;
pub mod snapshot;
pub mod text;
