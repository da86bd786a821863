//! The images that the driver's pods start from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use quarry_lab::{Cluster, Image, cache_folder};

use super::manifests::{of_the_driver, root_of_repository};
use crate::site::{programs_folder, target_folder};

/// The sidecars: the name in the manifests, the program that stands for it, and where it lies in the image.
const SIDECARS: [(&str, &str, &str); 4] = [
    ("csi-provisioner", "csi-provisioner", "/csi-provisioner"),
    ("csi-resizer", "csi-resizer", "/csi-resizer"),
    ("csi-node-driver-registrar", "stand-in", "/csi-node-driver-registrar"),
    ("livenessprobe", "stand-in", "/livenessprobe"),
];

/// The driver's image with the program of this build; as an archive.
pub(super) fn build() -> Result<PathBuf> {
    let (program, archive) = (programs_folder()?.join("quarry"), target_folder()?.join("quarry-image-of-trial.tar"));
    let stripped = target_folder()?.join("quarry-stripped");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(&program).status().context("cannot run strip")?;
    ensure!(strip.success(), "cannot strip {}", program.display());
    let mut build = Command::new(root_of_repository().join("scripts/build-image"));
    let status = build.arg(cache_folder()?).arg(&stripped).arg(&archive).status().context("cannot build the image")?;
    ensure!(status.success(), "the image could not be built");
    Ok(archive)
}

/// Gives every worker the driver's image, and those of the sidecars under the names that the manifests have for them.
pub(super) fn import(cluster: &Cluster, driver: &Path) -> Result<()> {
    cluster.import_archive(driver)?;
    let manifests = of_the_driver()?;
    for (name, program, inside) in SIDECARS {
        let named = |line: &str| Some(line.trim().strip_prefix("image: ")?.trim_matches('"').to_owned());
        let named = manifests.lines().filter_map(named).find(|image| image.contains(&format!("/{name}:")));
        let named = named.with_context(|| format!("the manifests name no image of {name}"))?;
        let image = Image::new(named).file(cluster.programs().join(program), inside).entrypoint([inside]);
        cluster.import(&image)?;
    }
    Ok(())
}
