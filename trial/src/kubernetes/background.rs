//! Quarry in the cluster that `quarry-lab cluster up` keeps in the background: what `make cluster` ends with.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::images;
use super::manifests::file_of_the_driver;
use super::{GROUP, NAMESPACE, ROLLOUT, WORKLOADS, snapshots};
use crate::site::programs_folder;

/// Gives the workers the images and a volume group, applies the cluster's part of snapshots and deploy/quarry.yaml, and waits
/// until the driver runs.
pub fn install(workers: u8) -> Result<()> {
    let mut archives = images::archives()?;
    archives.push(snapshots::archive()?);
    let mut import = vec![String::from("import")];
    import.extend(archives.iter().map(|archive| archive.to_string_lossy().into_owned()));
    lab(&import)?;
    for worker in 1..=workers {
        // The first disk that `cluster up --disk` gives to a worker.
        lab(&words(&["run", &format!("worker-{worker}"), "--", "vgcreate", "--quiet", GROUP, "/dev/ubdb"]))?;
    }
    kubectl(&["apply", "--filename", &snapshots::manifests()?.to_string_lossy()])?;
    kubectl(&["apply", "--filename", &file_of_the_driver().to_string_lossy()])?;
    for what in WORKLOADS {
        let ready = kubectl(&["--namespace", NAMESPACE, "rollout", "status", what, ROLLOUT]);
        if ready.is_err() {
            let selector = "--selector=app.kubernetes.io/name=quarry";
            kubectl(&["--namespace", NAMESPACE, "get", "pods", "--output=wide"])?;
            kubectl(&["--namespace", NAMESPACE, "logs", selector, "--all-containers", "--prefix", "--tail=20"])?;
        }
        ready?;
    }
    println!("Quarry is installed: a claim of the StorageClass `quarry` gets a volume.");
    println!(
        "(node-driver-registrar and livenessprobe are not served as Go modules; a stand-in of ours has their places.)"
    );
    Ok(())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn kubectl(arguments: &[&str]) -> Result<()> {
    let mut all = words(&["exec", "--", "kubectl"]);
    all.extend(words(arguments));
    lab(&all)
}

fn lab(arguments: &[String]) -> Result<()> {
    let program = programs_folder()?.join("quarry-lab");
    let status = Command::new(&program).arg("cluster").args(arguments).status();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(status.success(), "`quarry-lab cluster {}` failed", arguments.join(" "));
    Ok(())
}
