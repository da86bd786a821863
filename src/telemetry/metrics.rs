//! What is counted as it happens.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::gauges::Gauges;

/// Before every name.
pub(super) const PREFIX: &str = "quarry";

/// From a read out of memory to a format of a large volume, and to what is no longer healthy.
const SECONDS: [f64; 12] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

type Seconds<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

/// Counters and histograms. One value per process, handed around in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    csi_calls: Family<CallLabels, Counter>,
    csi_call_seconds: Seconds<CallLabels>,
    lvm_command_seconds: Seconds<CommandLabels>,
    lvm_command_failures: Family<CommandLabels, Counter>,
    commands: Family<ProgramLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CommandLabels {
    command: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ProgramLabels {
    program: String,
}

impl Metrics {
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            csi_calls: Family::default(),
            csi_call_seconds: seconds(),
            lvm_command_seconds: seconds(),
            lvm_command_failures: Family::default(),
            commands: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "csi_calls",
            "CSI calls by method and gRPC code; CANCELLED where the caller gave up",
            self.csi_calls.clone(),
        );
        registry.register_with_unit(
            "csi_call",
            "Time that CSI calls took",
            Unit::Seconds,
            self.csi_call_seconds.clone(),
        );
        registry.register_with_unit(
            "lvm_command",
            "Time that LVM commands took, waiting for LVM's locks included",
            Unit::Seconds,
            self.lvm_command_seconds.clone(),
        );
        registry.register("lvm_command_failures", "LVM commands that failed", self.lvm_command_failures.clone());
        registry.register("commands", "Processes started, by program", self.commands.clone());
    }

    /// A CSI call ended.
    pub fn csi_call(&self, method: &'static str, code: &'static str, seconds: f64) {
        let labels = CallLabels { method, code };
        self.csi_calls.get_or_create(&labels).inc();
        self.csi_call_seconds.get_or_create(&labels).observe(seconds);
    }

    /// An LVM command such as `lvcreate` ended.
    pub fn lvm_command(&self, command: &str, seconds: f64, ok: bool) {
        let labels = CommandLabels { command: command.to_owned() };
        self.lvm_command_seconds.get_or_create(&labels).observe(seconds);
        // Touched by every command: a rate can only be taken of a series that was there before the first failure.
        let failures = self.lvm_command_failures.get_or_create(&labels);
        if !ok {
            failures.inc();
        }
    }

    /// A process was started, of whatever program.
    pub fn command(&self, program: &str) {
        let labels = ProgramLabels { program: program.to_owned() };
        self.commands.get_or_create(&labels).inc();
    }

    /// Everything in the text format of `OpenMetrics`: what was counted, and what was just measured.
    pub fn encode(&self, gauges: &Gauges) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &gauges.registry())?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds<Labels: Clone + std::hash::Hash + Eq>() -> Seconds<Labels> {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}

#[cfg(test)]
mod tests {
    use super::super::gauges::{CopyGauges, ThinPoolGauges, VolumeGroupGauges};
    use super::*;

    fn assert_line(text: &str, line: &str) {
        assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
    }

    #[test]
    fn what_happened_is_counted_by_its_labels() {
        let metrics = Metrics::new();
        metrics.csi_call("CreateVolume", "OK", 0.03);
        metrics.csi_call("CreateVolume", "OK", 0.3);
        metrics.csi_call("CreateVolume", "ABORTED", 0.0);
        metrics.lvm_command("lvcreate", 0.04, true);
        metrics.lvm_command("lvcreate", 0.04, false);
        metrics.lvm_command("lvremove", 0.04, true);
        metrics.command("mkfs.ext4");
        let text = metrics.encode(&Gauges::default()).unwrap();
        for line in [
            r#"quarry_csi_calls_total{method="CreateVolume",code="OK"} 2"#,
            r#"quarry_csi_calls_total{method="CreateVolume",code="ABORTED"} 1"#,
            r#"quarry_csi_call_seconds_count{method="CreateVolume",code="OK"} 2"#,
            r#"quarry_csi_call_seconds_bucket{le="0.05",method="CreateVolume",code="OK"} 1"#,
            r#"quarry_lvm_command_seconds_count{command="lvcreate"} 2"#,
            r#"quarry_lvm_command_failures_total{command="lvcreate"} 1"#,
            r#"quarry_lvm_command_failures_total{command="lvremove"} 0"#,
            r#"quarry_commands_total{program="mkfs.ext4"} 1"#,
            "# EOF",
        ] {
            assert_line(&text, line);
        }
    }

    #[test]
    fn gauges_are_those_of_this_scrape_and_no_other() {
        let metrics = Metrics::new();
        let full = Gauges {
            volume_groups: vec![VolumeGroupGauges {
                volume_group: "nvme".to_owned(),
                size_bytes: 1 << 40,
                free_bytes: 1 << 30,
                metadata_free_bytes: 4096,
            }],
            thin_pools: vec![ThinPoolGauges {
                volume_group: "nvme".to_owned(),
                thin_pool: "pool".to_owned(),
                data_bytes: Some(1 << 30),
                limit_bytes: 1 << 31,
                trouble: Some("ThinPoolFull"),
                ..ThinPoolGauges::default()
            }],
            volumes: [("fast".to_owned(), 3)].into(),
            copies: vec![CopyGauges {
                volume: "pvc-1".to_owned(),
                class: "fast".to_owned(),
                done_bytes: 4096,
                bytes: 1 << 30,
            }],
            wipes_pending: Some(1),
            stuck_commands: Some(0),
            classes_refused: Some(0),
            certificate_expires: Some(2_000_000_000),
            controller: None,
        };
        let text = metrics.encode(&full).unwrap();
        for line in [
            r#"quarry_volume_group_size_bytes{volume_group="nvme"} 1099511627776"#,
            r#"quarry_volume_group_free_bytes{volume_group="nvme"} 1073741824"#,
            r#"quarry_volume_group_metadata_free_bytes{volume_group="nvme"} 4096"#,
            r#"quarry_thin_pool_data_bytes{volume_group="nvme",thin_pool="pool"} 1073741824"#,
            r#"quarry_thin_pool_limit_bytes{volume_group="nvme",thin_pool="pool"} 2147483648"#,
            r#"quarry_thin_pool_trouble{volume_group="nvme",thin_pool="pool",reason="ThinPoolFull"} 1"#,
            r#"quarry_volumes{class="fast"} 3"#,
            r#"quarry_copy_done_bytes{volume="pvc-1",class="fast"} 4096"#,
            r#"quarry_copy_bytes{volume="pvc-1",class="fast"} 1073741824"#,
            "quarry_wipes_pending 1",
            "quarry_stuck_commands 0",
            "quarry_certificate_expires_timestamp_seconds 2000000000",
        ] {
            assert_line(&text, line);
        }
        let text = metrics.encode(&Gauges::default()).unwrap();
        for gone in ["volume_group=", "class=", "volume=", "quarry_wipes_pending", "quarry_stuck_commands"] {
            assert!(!text.contains(gone), "{gone} in\n{text}");
        }
    }
}
