//! From a pod's creation to the first word of its container.

use anyhow::{Context, Result};
use serde_json::json;

use super::WORKER;
use super::volumes::{between, first};
use crate::bench::samples::Samples;
use crate::kubernetes::audit::{entries, time};
use crate::kubernetes::manifests::{claim, on_node, pod};
use crate::kubernetes::{Installed, Namespace};

/// Starts so many pods one after the other; with a volume, its claim is made together with the pod.
pub(super) fn measure(installed: &Installed, space: &Namespace<'_>, pods: usize, with_volume: bool) -> Result<Samples> {
    let mut times = Samples::default();
    for number in 0..pods {
        let name = format!("{}-{number}", if with_volume { "with" } else { "without" });
        let mut pod = on_node(pod(&name, &name, "echo started"), WORKER);
        if with_volume {
            space.apply(&[claim(&name, "quarry", "64Mi"), pod])?;
        } else {
            pod["spec"]["volumes"] = json!([]);
            pod["spec"]["containers"][0]["volumeMounts"] = json!([]);
            space.apply(&[pod])?;
        }
        space.running(&[&name])?;
        let log = space.kubectl(&["logs", &name, "--timestamps"])?;
        let started = time(log.split_whitespace().next().context("the container said nothing")?)?;
        let made = first(&entries(&installed.cluster)?, "pods", &name).context("nobody made the pod")?;
        times.push(between(made, installed.clock_of(WORKER)?.here(started)));
        space.delete(&[&format!("pod/{name}")])?;
    }
    Ok(times)
}
