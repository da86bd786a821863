//! What the driver tells of itself.
//!
//! - [`logs`]: lines on standard error, as JSON or text
//! - [`metrics`]: what is counted as it happens
//! - [`gauges`]: what is measured when somebody asks
//! - [`http`]: `/metrics` and `/healthz`
//! - `brief`: connections that do not last, so that strangers keep nobody out
//!
//! Nothing here is global but the log: tests run many drivers in one process.

mod brief;
pub mod gauges;
pub mod http;
pub mod logs;
pub mod metrics;

pub use gauges::{ControllerGauges, CopyGauges, Gauges, ThinPoolGauges, VolumeGroupGauges};
pub use metrics::Metrics;
