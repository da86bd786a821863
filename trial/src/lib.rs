//! What is tried on Quarry in the lab. Two halves of one program: outside, it boots a machine with disks,
//! a volume group and a `quarry node` ([`site`]); inside, on that machine, it is the node's client over
//! the unix socket ([`client`], [`inside`]), since a guest's socket cannot be reached from without.

pub mod bench;
pub mod checks;
pub mod client;
pub mod demo;
pub mod inside;
pub mod kubernetes;
pub mod power_cuts;
pub mod races;
pub mod sanity;
pub mod site;
pub mod under_load;
