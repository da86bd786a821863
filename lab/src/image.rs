//! Container images made from files of this machine, in the layout of the Open Container Initiative, without a container
//! engine and without anything pulled. `ctr image import` takes them under the name they were given here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image to be: a name, files, and what a container of it runs.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    entries: Vec<Entry>,
    entrypoint: Vec<String>,
}

#[derive(Debug, Clone)]
enum Entry {
    File { here: PathBuf, inside: String },
    Link { inside: String, target: String },
}

impl Image {
    /// The name in full, as `registry.k8s.io/pause:3.10`: what a pod names, whoever made the image.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), entries: Vec::new(), entrypoint: Vec::new() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file of this machine at an absolute path of the image, executable if it is so here. Nothing is added for it: a
    /// program must be statically linked or bring its libraries.
    #[must_use]
    pub fn file(mut self, here: impl Into<PathBuf>, inside: impl Into<String>) -> Self {
        self.entries.push(Entry::File { here: here.into(), inside: inside.into() });
        self
    }

    /// A symbolic link at an absolute path of the image.
    #[must_use]
    pub fn link(mut self, inside: impl Into<String>, target: impl Into<String>) -> Self {
        self.entries.push(Entry::Link { inside: inside.into(), target: target.into() });
        self
    }

    /// What a container runs unless its pod says otherwise.
    #[must_use]
    pub fn entrypoint<I: IntoIterator<Item = S>, S: Into<String>>(mut self, words: I) -> Self {
        self.entrypoint = words.into_iter().map(Into::into).collect();
        self
    }

    /// Writes the image as one tar file; the same files make the same bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = || format!("cannot make the image {}", self.name);
        let layer = self.layer().with_context(failed)?;
        let configuration = serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        }))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIGURATION, &configuration),
            "layers": [descriptor(LAYER, &layer)],
        }))?;
        let mut in_index = descriptor(MANIFEST, &manifest);
        in_index["annotations"] = json!({ "io.containerd.image.name": self.name });
        let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [in_index] }))?;

        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut tar = Builder::new(file);
        put(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#).with_context(failed)?;
        put(&mut tar, "index.json", 0o644, &index).with_context(failed)?;
        for blob in [&manifest, &configuration, &layer] {
            put(&mut tar, &format!("blobs/{}", digest(blob).replace(':', "/")), 0o644, blob).with_context(failed)?;
        }
        tar.into_inner().and_then(|mut file| file.flush()).with_context(failed)
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        let mut folders = BTreeSet::new();
        for folder in ["dev", "etc", "proc", "run", "sys", "tmp"] {
            put_folder(&mut tar, Path::new(folder), &mut folders)?;
        }
        for entry in &self.entries {
            let (Entry::File { inside, .. } | Entry::Link { inside, .. }) = entry;
            let relative = inside.strip_prefix('/');
            let relative = relative.with_context(|| format!("`{inside}` must be an absolute path"))?;
            ensure!(!relative.split('/').any(|part| part == ".."), "`{inside}` must not contain `..`");
            if let Some(folder) = Path::new(relative).parent() {
                put_folder(&mut tar, folder, &mut folders)?;
            }
            match entry {
                Entry::File { here, .. } => {
                    let content = fs::read(here).with_context(|| format!("cannot read {}", here.display()))?;
                    let mode = fs::metadata(here).map(|data| data.permissions().mode() & 0o111).unwrap_or_default();
                    put(&mut tar, relative, if mode == 0 { 0o644 } else { 0o755 }, &content)?;
                }
                Entry::Link { target, .. } => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, relative, target)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

/// The folder and those above it, each once.
fn put_folder(tar: &mut Builder<Vec<u8>>, folder: &Path, known: &mut BTreeSet<PathBuf>) -> Result<()> {
    let above: Vec<&Path> = folder.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    for path in above.into_iter().rev() {
        if known.insert(path.to_owned()) {
            let mode = if path == Path::new("tmp") { 0o1777 } else { 0o755 };
            tar.append_data(&mut header(EntryType::Directory, mode, 0), path, &[][..])?;
        }
    }
    Ok(())
}

fn put<W: Write>(tar: &mut Builder<W>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, content.len() as u64);
    tar.append_data(&mut header, path, content).with_context(|| format!("cannot pack {path}"))
}

/// Owned by root and without a time, so that the same files make the same image.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::from("sha256:"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() })
}

/// This machine's, in the words of the image format.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            found.push((entry.path().unwrap().to_string_lossy().into_owned(), bytes));
        }
        found
    }

    #[test]
    fn an_image_names_every_blob_by_its_digest_and_itself_in_full() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        let image = Image::new("registry.example/some/name:v1").file(&program, "/usr/bin/program");
        let image = image.link("/bin/other", "/usr/bin/program").entrypoint(["/bin/other"]);
        let path = folder.path().join("image.tar");
        image.write(&path).unwrap();
        let files = contents(&path);
        for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with("blobs/")) {
            assert_eq!(*name, format!("blobs/{}", digest(bytes).replace(':', "/")));
        }
        let (_, index) = files.iter().find(|(name, _)| name == "index.json").unwrap();
        let index: Value = serde_json::from_slice(index).unwrap();
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "registry.example/some/name:v1");
        let again = folder.path().join("again.tar");
        image.write(&again).unwrap();
        assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap());
    }

    #[test]
    fn folders_come_before_what_lies_in_them_and_only_once() {
        let image = Image::new("x").link("/a/b/c", "/x").link("/a/b/d", "/x").link("/tmp/e", "/x");
        let layer = image.layer().unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        let paths: Vec<String> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into()).collect();
        assert_eq!(paths, ["dev", "etc", "proc", "run", "sys", "tmp", "a", "a/b", "a/b/c", "a/b/d", "tmp/e"]);
    }

    #[test]
    fn a_path_that_leaves_the_image_is_refused() {
        for wrong in ["relative", "/../outside"] {
            assert!(Image::new("x").link(wrong, "/x").layer().is_err(), "{wrong}");
        }
    }
}
