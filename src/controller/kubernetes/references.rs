//! What the cluster knows of volumes: its `PersistentVolumes`, its claims and its `StorageClasses`, read page by page, so
//! that no more than a page of the objects themselves is held at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::controller::orphans::{Listed, Orphan, Reference, orphans, unnamed};
use crate::controller::storage_class::StorageClass;
use crate::lvm::tags::Claim;

/// Objects of a page.
const PAGE: u32 = 500;
const CLASS: &str = "class";
const FILE_SYSTEM: &str = "csi.storage.k8s.io/fstype";

/// The `PersistentVolumes` of all CSI drivers.
pub async fn references(client: &Client) -> kube::Result<Vec<Reference>> {
    all(Api::<PersistentVolume>::all(client.clone()), |volume| reference(&volume)).await
}

/// The `PersistentVolume` of that name.
pub async fn reference_named(client: &Client, name: &str) -> kube::Result<Option<Reference>> {
    let found = Api::<PersistentVolume>::all(client.clone()).get_opt(name).await?;
    Ok(found.and_then(|volume| reference(&volume)))
}

/// The uids of all claims.
pub async fn claim_uids(client: &Client) -> kube::Result<BTreeSet<String>> {
    let (api, mut parameters) = (Api::<PersistentVolumeClaim>::all(client.clone()), ListParams::default().limit(PAGE));
    let mut uids = BTreeSet::new();
    loop {
        let page = api.list_metadata(&parameters).await?;
        uids.extend(page.items.iter().filter_map(ResourceExt::uid));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(uids),
        }
    }
}

/// The `StorageClasses` of a driver.
pub async fn storage_classes(client: &Client, driver: &str) -> kube::Result<Vec<StorageClass>> {
    all(Api::<v1::StorageClass>::all(client.clone()), |class| storage_class(&class, driver)).await
}

/// The orphans among these volumes, and the `PersistentVolumes`.
pub async fn orphans_of(
    client: &Client,
    driver: &str,
    listed: &[Listed],
    now: u64,
) -> kube::Result<(Vec<Orphan>, Vec<Reference>)> {
    let references = references(client).await?;
    let unnamed = unnamed(listed, &references, driver, now);
    // Mostly every volume is named, and all the claims of the cluster need not be read.
    let claims = if unnamed.is_empty() { BTreeSet::new() } else { claim_uids(client).await? };
    Ok((orphans(unnamed, listed, &references, &claims), references))
}

async fn all<K, T>(api: Api<K>, keep: impl Fn(K) -> Option<T>) -> kube::Result<Vec<T>>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let (mut parameters, mut kept) = (ListParams::default().limit(PAGE), Vec::new());
    loop {
        let page = api.list(&parameters).await?;
        kept.extend(page.items.into_iter().filter_map(&keep));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(kept),
        }
    }
}

fn reference(volume: &PersistentVolume) -> Option<Reference> {
    let spec = volume.spec.as_ref()?;
    let csi = spec.csi.as_ref()?;
    let claim = spec.claim_ref.as_ref().and_then(|claim| {
        Some((Claim { namespace: claim.namespace.clone()?, name: claim.name.clone()? }, claim.uid.clone()))
    });
    let (driver, handle) = (csi.driver.clone(), csi.volume_handle.clone());
    Some(Reference { name: volume.name_any(), driver, handle, claim })
}

fn storage_class(class: &v1::StorageClass, driver: &str) -> Option<StorageClass> {
    let none = BTreeMap::new();
    let parameters = class.parameters.as_ref().unwrap_or(&none);
    (class.provisioner == driver).then(|| StorageClass {
        name: class.name_any(),
        class: parameters.get(CLASS).cloned(),
        file_system: parameters.get(FILE_SYSTEM).cloned(),
        mount_options: class.mount_options.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVER: &str = "lvm.quarry.storage";

    #[test]
    fn a_persistent_volume_names_a_volume_whatever_its_driver() {
        let volume = |driver: &str| {
            let json = serde_json::json!({"metadata": {"name": "pvc-1"}, "spec": {
                "csi": {"driver": driver, "volumeHandle": "n1/pvc-1"},
                "claimRef": {"namespace": "shop", "name": "data", "uid": "u"},
            }});
            serde_json::from_value::<PersistentVolume>(json).unwrap()
        };
        let claim = Claim { namespace: String::from("shop"), name: String::from("data") };
        let expected = Reference {
            name: String::from("pvc-1"),
            driver: String::from("other.csi"),
            handle: String::from("n1/pvc-1"),
            claim: Some((claim, Some(String::from("u")))),
        };
        assert_eq!(reference(&volume("other.csi")), Some(expected));
        assert_eq!(reference(&PersistentVolume::default()), None);
    }

    #[test]
    fn a_storage_class_is_known_by_its_parameters() {
        let json = serde_json::json!({"metadata": {"name": "quick"}, "provisioner": DRIVER, "mountOptions": ["noatime"],
            "parameters": {"class": "fast", "csi.storage.k8s.io/fstype": "xfs"}});
        let class: v1::StorageClass = serde_json::from_value(json).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let expected = StorageClass {
            name: String::from("quick"),
            class: text("fast"),
            file_system: text("xfs"),
            mount_options: vec![String::from("noatime")],
        };
        assert_eq!(storage_class(&class, DRIVER), Some(expected));
        assert_eq!(storage_class(&class, "other.csi"), None);
    }
}
