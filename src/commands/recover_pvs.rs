//! `quarry recover-pvs`: `PersistentVolumes` for volumes that the cluster has forgotten. Runs in the controller's pod.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use crate::commands::cluster::Cluster;
use crate::commands::machine::block_on;
use crate::config::driver_name::topology_key;
use crate::config::flags::{ManifestFormat, RecoverFlags};
use crate::controller::kubernetes::references::{references, storage_classes};
use crate::controller::recover::{Wanted, recover};
use crate::controller::storage_class::StorageClasses;

/// Writes the manifests; notes go to standard error.
pub fn run(flags: &RecoverFlags, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    block_on(async {
        let cluster = Cluster::find(&flags.socket.csi_endpoint).await?;
        let (driver, client) = (cluster.driver.clone(), &cluster.client);
        let reachable = cluster.volumes(flags.reachable_only).await?;
        for (node, count) in reachable.counts() {
            eprintln!("quarry: node {node}: {count} {}", if count == 1 { "volume" } else { "volumes" });
        }
        let listed = reachable.volumes;
        let references = references(client).await.context("could not read the PersistentVolumes")?;
        let known = storage_classes(client, &driver).await.context("could not read the StorageClasses")?;
        let wanted = Wanted {
            topology_key: topology_key(&driver),
            driver,
            reclaim_policy: flags.reclaim_policy.word(),
            storage_classes: StorageClasses { chosen: flags.storage_classes.iter().cloned().collect(), known },
        };
        let recovered = recover(&listed, &references, &flags.ids, &wanted)?;
        for note in &recovered.notes {
            eprintln!("quarry: {note}");
        }
        match flags.format {
            ManifestFormat::Json => {
                let list = json!({ "apiVersion": "v1", "kind": "List", "items": recovered.volumes });
                writeln!(out, "{list}")?;
            }
            ManifestFormat::Yaml => write!(out, "{}", serde_saphyr::to_string_multiple(&recovered.volumes)?)?,
        }
        Ok(ExitCode::SUCCESS)
    })
}
