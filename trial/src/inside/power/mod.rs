//! Work that is cut off by the end of the power, and the check of what is left. What was asked and answered
//! stands in a [`journal`] outside of the machine, so that it outlives it.

pub mod caller;
pub mod check;
pub mod churn;
pub mod journal;
pub mod ledger;
pub mod records;
pub mod room_watch;
pub mod workload;
