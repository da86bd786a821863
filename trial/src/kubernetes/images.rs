//! The images that the driver's pods start from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use quarry_lab::{Image, cache_folder};

use super::manifests::{of_the_driver, root_of_repository};
use crate::site::{programs_folder, target_folder};

/// The sidecars: the name in the manifests, the program that stands for it, and where it lies in the image.
const SIDECARS: [(&str, &str, &str); 5] = [
    ("csi-provisioner", "csi-provisioner", "/csi-provisioner"),
    ("csi-resizer", "csi-resizer", "/csi-resizer"),
    ("csi-snapshotter", "csi-snapshotter", "/csi-snapshotter"),
    ("csi-node-driver-registrar", "stand-in", "/csi-node-driver-registrar"),
    ("livenessprobe", "stand-in", "/livenessprobe"),
];

/// Archives with all images that the manifests name: the driver's with the program of this build, and those of the
/// sidecars.
pub(super) fn archives() -> Result<Vec<PathBuf>> {
    let folder = folder()?;
    let mut archives = vec![driver(&folder)?];
    let (manifests, programs) = (of_the_driver()?, quarry_lab::programs()?);
    for (name, program, inside) in SIDECARS {
        let named = |line: &str| Some(line.trim().strip_prefix("image: ")?.trim_matches('"').to_owned());
        let named = manifests.lines().filter_map(named).find(|image| image.contains(&format!("/{name}:")));
        let named = named.with_context(|| format!("the manifests name no image of {name}"))?;
        let archive = folder.join(format!("{name}.tar"));
        Image::new(named).file(programs.join(program), inside).entrypoint([inside]).write(&archive)?;
        archives.push(archive);
    }
    Ok(archives)
}

/// Where they and other things made for clusters lie.
pub(super) fn folder() -> Result<PathBuf> {
    let folder = target_folder()?.join("kubernetes");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn driver(folder: &Path) -> Result<PathBuf> {
    let (program, archive) = (programs_folder()?.join("quarry"), folder.join("quarry.tar"));
    let stripped = folder.join("quarry");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(&program).status().context("cannot run strip")?;
    ensure!(strip.success(), "cannot strip {}", program.display());
    let mut build = Command::new(root_of_repository().join("scripts/build-image"));
    let status = build.arg(cache_folder()?).arg(&stripped).arg(&archive).status().context("cannot build the image")?;
    ensure!(status.success(), "the image could not be built");
    Ok(archive)
}
