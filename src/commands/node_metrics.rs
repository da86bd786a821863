//! What a node counts and measures beside its calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::host::commands::Command;
use crate::host::processes::Observer;
use crate::node::Node;
use crate::node::copy::Progress;
use crate::node::placement::metadata_free;
use crate::node::volume::Volume;
use crate::telemetry::http::Source;
use crate::telemetry::{CopyGauges, Gauges, Metrics, VolumeGroupGauges};
use crate::tls::{InForce, expiry};

/// Counts commands, and those that hang.
pub(super) struct CommandWatcher {
    metrics: Arc<Metrics>,
    stuck: AtomicU64,
}

impl CommandWatcher {
    /// None has been started yet.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, stuck: AtomicU64::new(0) }
    }
}

impl Observer for CommandWatcher {
    fn started(&self, command: &Command) {
        self.metrics.command(command.program);
    }

    fn still_running(&self, _command: &Command, elapsed: Duration) {
        // Told every 30 seconds; it counts as stuck from the first time on.
        if elapsed < Duration::from_secs(45) {
            self.stuck.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ended(&self, command: &Command, elapsed: Duration, ok: bool) {
        if elapsed >= Duration::from_secs(30) {
            self.stuck.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1)).ok();
        }
        if command.program == "lvm" {
            let subcommand = command.arguments.first().map(|word| word.to_string_lossy().into_owned());
            self.metrics.lvm_command(&subcommand.unwrap_or_default(), elapsed.as_secs_f64(), ok);
        }
    }
}

fn copy_gauges((volume, progress): (String, Progress)) -> CopyGauges {
    CopyGauges { volume, class: progress.class, done_bytes: progress.done, bytes: progress.all }
}

/// What is measured when somebody asks.
pub(super) struct NodeSource {
    pub(super) node: Arc<Node>,
    pub(super) watcher: Arc<CommandWatcher>,
    /// What it shows to a controller, if it serves one.
    pub(super) material: Option<InForce>,
}

#[tonic::async_trait]
impl Source for NodeSource {
    async fn gauges(&self) -> Gauges {
        let stuck_commands = Some(self.watcher.stuck.load(Ordering::Relaxed));
        let classes_refused = Some(u64::from(self.node.classes.last_error().is_some()));
        let certificate_expires = self.material.as_ref().and_then(expiry::expires);
        let Ok(view) = self.node.groups.read().await else {
            return Gauges { stuck_commands, classes_refused, certificate_expires, ..Gauges::default() };
        };
        let classes = self.node.classes.current();
        let volume_groups =
            view.groups.iter().filter(|group| classes.use_group(&group.name)).map(|group| VolumeGroupGauges {
                volume_group: group.name.clone(),
                size_bytes: group.extents() * group.extent_bytes,
                free_bytes: group.free_extents() * group.extent_bytes,
                metadata_free_bytes: metadata_free(group),
            });
        let mut volumes: BTreeMap<String, u64> = classes.iter().map(|class| (class.name.clone(), 0)).collect();
        let all = Volume::all(&view);
        for volume in all.iter().filter(|volume| volume.tags.deleting.is_none()) {
            *volumes.entry(volume.tags.class.clone()).or_default() += 1;
        }
        let wipes_pending = u64::try_from(Node::wipes_pending(&all)).ok();
        Gauges {
            volume_groups: volume_groups.collect(),
            thin_pools: self.node.pool_figures(&view).await,
            volumes,
            copies: self.node.copies().into_iter().map(copy_gauges).collect(),
            wipes_pending,
            stuck_commands,
            classes_refused,
            certificate_expires,
            controller: None,
        }
    }

    fn warning(&self) -> Option<String> {
        let error = self.node.classes.last_error()?;
        Some(format!("the classes file is refused and the old one stays in force: {error}"))
    }
}
