//! The programs of Kubernetes and its sidecars, built from the Go module that pins them, and manifests that lie in the same
//! modules. Built once, kept under a name that says what they were built from.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::service::quote;
use crate::cache::{cache_folder, lock_file, remove_folder};

/// Under which name a program is kept, and its package.
const PROGRAMS: &[(&str, &str)] = &[
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("csi-provisioner", "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner"),
    ("csi-resizer", "github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer"),
    ("csi-snapshotter", "github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter"),
    ("snapshot-controller", "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller"),
    ("stand-in", "quarry.storage/tests/tools/cluster/stand-in"),
];

/// Folders of manifests: under which name each is kept, its module, and where it lies there.
const MANIFESTS: &[(&str, &str, &str)] = &[
    ("snapshot-crds", "github.com/kubernetes-csi/external-snapshotter/client/v8", "config/crd"),
    (
        "snapshot-controller-manifests",
        "github.com/kubernetes-csi/external-snapshotter/v8",
        "deploy/kubernetes/snapshot-controller",
    ),
];

/// The folder of the finished programs and of the manifests, built first where that is needed (some minutes). Needs Go and, then, its proxy.
pub fn programs() -> Result<PathBuf> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools/cluster");
    let cache = cache_folder()?;
    let finished = cache.join(format!("programs-{}", key(&module)?));
    if finished.is_dir() {
        return Ok(finished);
    }
    let lock = lock_file(&cache.join("programs.lock"))?;
    lock.lock().context("cannot lock the cache of programs")?;
    if finished.is_dir() {
        return Ok(finished);
    }
    // Only one builds at a time: what lies there is of one that was interrupted.
    let building = cache.join("programs-unfinished");
    remove_folder(&building)?;
    fs::create_dir(&building).with_context(|| format!("cannot make {}", building.display()))?;
    eprintln!("building Kubernetes and its sidecars from Go modules, once, about six minutes …");
    for (name, package) in PROGRAMS {
        build(&module, &building, name, package)?;
    }
    for (name, of, inside) in MANIFESTS {
        let source = PathBuf::from(go(&module, &["list", "-m", "-f", "{{.Dir}}", of])?).join(inside);
        copy_files(&source, &building.join(name))?;
    }
    fs::rename(&building, &finished).with_context(|| format!("cannot rename {}", building.display()))?;
    Ok(finished)
}

/// Names everything that the programs are made of.
fn key(module: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    digest.update(format!("{PROGRAMS:?} {MANIFESTS:?} {}", go(module, &["env", "GOVERSION"])?));
    let stand_in = module.join("stand-in");
    let sources = fs::read_dir(&stand_in).with_context(|| format!("cannot read {}", stand_in.display()))?;
    let mut files: Vec<PathBuf> = sources.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.extend([module.join("go.mod"), module.join("go.sum")]);
    files.sort();
    for file in files {
        digest.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(digest.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn build(module: &Path, folder: &Path, name: &str, package: &str) -> Result<()> {
    let log_path = folder.join("go.log");
    let log = File::create(&log_path).with_context(|| format!("cannot make {}", log_path.display()))?;
    let status = Command::new("go")
        .args(["build", "-trimpath", "-ldflags"])
        .arg(format!("-s -w {}", version_flags(module, package)?))
        .arg("-o")
        .arg(folder.join(name))
        .arg(package)
        .current_dir(module)
        // Without C the programs need no library of the machine or image where they run.
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the log")?)
        .stderr(log)
        .status()
        .context("Go is needed to build Kubernetes")?;
    ensure!(status.success(), "{name} could not be built{}", quote(&log_path));
    fs::remove_file(&log_path).context("cannot remove the log of the build")
}

fn copy_files(source: &Path, folder: &Path) -> Result<()> {
    fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let files = fs::read_dir(source).with_context(|| format!("cannot read {}", source.display()))?;
    for file in files {
        let file = file.with_context(|| format!("cannot read {}", source.display()))?;
        fs::copy(file.path(), folder.join(file.file_name()))
            .with_context(|| format!("cannot copy {}", file.path().display()))?;
    }
    Ok(())
}

/// The programs ask each other for their versions, which only the linker tells them.
fn version_flags(module: &Path, package: &str) -> Result<String> {
    let version = go(module, &["list", "-f", "{{with .Module}}{{.Version}}{{end}}", package])?;
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let base = "k8s.io/component-base/version";
    Ok(if package.starts_with("k8s.io/kubernetes/") {
        format!("-X {base}.gitVersion={version} -X {base}.gitMajor={major} -X {base}.gitMinor={minor}")
    } else {
        format!("-X main.version={version}")
    })
}

fn go(module: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new("go").args(words).current_dir(module).output();
    let output = output.context("Go is needed to build Kubernetes")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "go {}: {}", words.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
