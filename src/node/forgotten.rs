//! Volumes that kubelet forgot to unstage. One that ends between NodeUnpublishVolume and NodeUnstageVolume looks only through the
//! folders of pods when it starts again, and so never unstages (kubernetes/kubernetes#121937): the volume could not be deleted
//! until somebody unmounts it by hand.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::error::Result;
use crate::host::kernel::MappedDevice;
use crate::lvm::names::hexadecimal;
use crate::node::Node;
use crate::node::device::mounts_of;
use crate::node::volume::Volume;

/// How long a volume that is to be deleted must have been staged and nothing else. A kubelet that knows of it unstages within a
/// tenth of a second, and after a try that failed again within seconds.
const GRACE: Duration = Duration::from_secs(30);

/// Since when volumes that are to be deleted are staged and nothing else, by name. May be lost: then it is counted anew.
#[derive(Debug, Default)]
pub(super) struct Forgotten(Mutex<HashMap<String, Instant>>);

impl Forgotten {
    /// Notes that it is so now; answers with how long it has been.
    fn note(&self, name: &str) -> Duration {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.entry(name.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    /// Somebody knows of the volume.
    pub(super) fn end(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Node {
    /// Unstages a volume that is to be deleted, if kubelet has forgotten it.
    pub(super) async fn unstage_forgotten(&self, volume: &Volume, device: &MappedDevice) -> Result<()> {
        let name = &volume.logical.name;
        let mounts = self.mounts().await?;
        let targets: Vec<&PathBuf> = mounts_of(&mounts, device).into_iter().map(|mount| &mount.target).collect();
        let folder = staging_folder(&self.identity.driver, &self.volume_id(name));
        let is_only_staged = targets.iter().all(|target| target.ends_with(&folder));
        let Some(staging_path) = targets.first().filter(|_| is_only_staged) else {
            self.forgotten.end(name);
            return Ok(());
        };
        if self.forgotten.note(name) < GRACE {
            return Ok(());
        }
        let (volume, path) = (volume.full_name(), staging_path.display());
        tracing::warn!(volume, "kubelet never unstaged it and it is to be deleted; it is unmounted from {path}");
        self.unstage_locked(name, staging_path).await?;
        self.forgotten.end(name);
        Ok(())
    }
}

/// Where kubelet has a volume staged, below its own folder (`makeDeviceMountPath` of its CSI plugin).
fn staging_folder(driver: &str, volume_id: &str) -> PathBuf {
    let volume = hexadecimal(&Sha256::digest(volume_id.as_bytes()));
    Path::new("plugins/kubernetes.io/csi").join(driver).join(volume).join("globalmount")
}
