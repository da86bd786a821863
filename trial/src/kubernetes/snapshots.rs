//! The cluster's own part of snapshots, as docs/kubernetes.md has it installed: the CRDs and the snapshot-controller of
//! external-snapshotter, from the manifests of its release.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use quarry_lab::Image;

use super::images::folder;

const PROGRAM: &str = "snapshot-controller";
/// The image of the release, and the one before it, which the release's manifests still name.
const IMAGE: &str = "registry.k8s.io/sig-storage/snapshot-controller:v8.7.0";
const NAMED: &str = "registry.k8s.io/sig-storage/snapshot-controller:v8.6.0";

/// An archive with the image.
pub(super) fn archive() -> Result<PathBuf> {
    let archive = folder()?.join("snapshot-controller.tar");
    let program = quarry_lab::programs()?.join(PROGRAM);
    Image::new(IMAGE).file(program, "/snapshot-controller").entrypoint(["/snapshot-controller"]).write(&archive)?;
    Ok(archive)
}

/// A file with what is to be applied.
pub(super) fn manifests() -> Result<PathBuf> {
    let programs = quarry_lab::programs()?;
    let built = |name: &str| -> Result<String> {
        let mut kustomize = Command::new(programs.join("kubectl"));
        let output = kustomize.arg("kustomize").arg(programs.join(name)).output().context("cannot run kubectl")?;
        ensure!(output.status.success(), "kubectl kustomize: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let (definitions, controller) = (built("snapshot-crds")?, built("snapshot-controller-manifests")?);
    ensure!(controller.contains(NAMED), "the manifests name another image than {NAMED}");
    let path = folder()?.join("snapshots.yaml");
    fs::write(&path, format!("{definitions}---\n{}", controller.replace(NAMED, IMAGE)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
