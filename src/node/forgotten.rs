//! Volumes that kubelet forgot to unstage. One that ends between `NodeUnpublishVolume` and `NodeUnstageVolume` looks only through the
//! folders of pods when it starts again, and so never unstages (kubernetes/kubernetes#121937): the volume could not be deleted
//! until somebody unmounts it by hand.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::host::kernel::MappedDevice;
use crate::lvm::names::hexadecimal;
use crate::node::Node;
use crate::node::device::mounts_of;
use crate::node::volume::Volume;

/// How long a volume that is to be deleted must have been staged and nothing else. A kubelet that knows of it unstages within a
/// tenth of a second; if that fails it waits longer and longer between its tries, and finds it unstaged. Below the 30 s of
/// external-provisioner's `--retry-interval-max` in deploy/.
const GRACE: Duration = Duration::from_secs(25);

/// Since when volumes that are to be deleted are staged and nothing else, by name. May be lost: then it is counted anew.
#[derive(Debug, Default)]
pub(super) struct Forgotten(Mutex<HashMap<String, Instant>>);

impl Forgotten {
    /// Notes that it is so now; answers with how long it has been.
    fn note(&self, name: &str) -> Duration {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.entry(name.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    /// Somebody knows of the volume, or it is not staged.
    pub(super) fn end(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Node {
    /// That a volume that is to be deleted is not mounted. One that kubelet has forgotten is unstaged.
    pub(super) async fn ensure_unmounted(&self, volume: &Volume, device: &MappedDevice) -> Result<()> {
        let name = &volume.logical.name;
        let mounts = self.mounts().await?;
        let folder = staging_folder(&self.identity.driver, &self.volume_id(name));
        let (staged, used): (Vec<&PathBuf>, Vec<&PathBuf>) = mounts_of(&mounts, device)
            .into_iter()
            .map(|mount| &mount.target)
            .partition(|target| target.ends_with(&folder));
        let (Some(staging_path), []) = (staged.first(), used.as_slice()) else {
            self.forgotten.end(name);
            return used.first().map_or(Ok(()), |target| {
                let (volume, target) = (volume.full_name(), target.display());
                let problem = format!("volume {volume} is mounted at {target}; unpublish and unstage it first");
                Err(Error::precondition(problem))
            });
        };
        let (volume, path) = (volume.full_name(), staging_path.display());
        if self.forgotten.note(name) < GRACE {
            return Err(Error::precondition(format!(
                "volume {volume} is mounted at {path}, which kubelet is to unstage; if it does not, the driver does when this is \
                 tried again {} seconds after the first time",
                GRACE.as_secs()
            )));
        }
        self.unstage_locked(name, staging_path).await?;
        self.forgotten.end(name);
        tracing::warn!(volume, "kubelet did not unstage it and it is to be deleted, so it was unmounted from {path}");
        Ok(())
    }
}

/// Where kubelet has a volume staged, below its own folder (`makeDeviceMountPath` of its CSI plugin).
fn staging_folder(driver: &str, volume_id: &str) -> PathBuf {
    let volume = hexadecimal(&Sha256::digest(volume_id.as_bytes()));
    Path::new("plugins/kubernetes.io/csi").join(driver).join(volume).join("globalmount")
}
