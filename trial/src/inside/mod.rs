//! What runs on the machine of the lab, as the node's client.

pub mod cases;
pub mod check;
pub mod step;
