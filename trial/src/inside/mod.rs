//! What runs on the machine of the lab, as the node's client.

pub mod bench;
pub mod cases;
pub mod check;
pub mod kind;
pub mod leftovers;
pub mod power;
pub mod races;
pub mod step;
pub mod under_load;

use std::path::PathBuf;

/// Where the node is and what it may use; the same for all long trials.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The node's socket
    #[arg(long, default_value = crate::site::SOCKET)]
    pub socket: String,
    /// The folder that plays kubelet's: staging and target paths lie in it
    #[arg(long)]
    pub kubelet: PathBuf,
    /// The volume group
    #[arg(long, default_value = "vg")]
    pub group: String,
}
