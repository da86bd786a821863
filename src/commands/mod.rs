//! The commands beside `quarry node`. Each writes its answer to a writer and says with which status to end.

pub mod check_config;
pub mod version;
