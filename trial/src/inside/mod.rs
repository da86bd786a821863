//! What runs on the machine of the lab, as the node's client.

pub mod step;
