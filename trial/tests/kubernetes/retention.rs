//! What becomes of volumes when claims go, and of claims that may not be.

use std::time::Duration;

use quarry_trial::kubernetes::manifests::{claim, pod, storage_class};
use serde_json::json;

use crate::shared::{installed, namespace};

#[test]
fn a_retained_volume_can_be_claimed_again_with_its_data() {
    let mut class = storage_class("quarry-retain", &json!({}));
    class["reclaimPolicy"] = json!("Retain");
    installed().apply(&[class]).unwrap();
    let space = namespace("retain");
    space.apply(&[claim("data", "quarry-retain", "64Mi"), pod("first", "data", "echo kept >/data/f")]).unwrap();
    space.running(&["first"]).unwrap();
    let (volume, node) = (space.bound("data").unwrap(), space.node_of("first").unwrap());
    space.delete(&["pod/first", "pvc/data"]).unwrap();
    let object = format!("pv/{volume}");
    installed().kubectl(&["wait", &object, "--for=jsonpath={.status.phase}=Released", "--timeout=60s"]).unwrap();

    // A static volume of what exists: the old object goes, the logical volume stays, a new object names it.
    let old = installed().object(&[&object]).unwrap();
    installed().kubectl(&["delete", &object]).unwrap();
    installed().on(&node, &format!("lvs --noheadings quarry/{volume}")).unwrap();
    let mut again = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "by-hand"}, "spec": old["spec"],
    });
    again["spec"]["claimRef"] = json!({"namespace": space.name(), "name": "again"});
    again["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");
    again["metadata"]["annotations"] = json!({"pv.kubernetes.io/provisioned-by": "lvm.quarry.storage"});
    let mut claim = claim("again", "quarry-retain", "64Mi");
    claim["spec"]["volumeName"] = json!("by-hand");
    space.apply(&[again, claim, pod("second", "again", "grep kept /data/f")]).unwrap();
    space.running(&["second"]).unwrap();
    assert_eq!(space.node_of("second").unwrap(), node);
    space.leave().unwrap();
}

#[test]
fn a_deleted_claim_waits_for_its_pod_and_then_takes_its_volume_along() {
    let space = namespace("delete");
    space.apply(&[claim("data", "quarry", "64Mi"), pod("main", "data", "echo used >/data/f")]).unwrap();
    space.running(&["main"]).unwrap();
    let volume = space.bound("data").unwrap();
    space.kubectl(&["delete", "pvc", "data", "--wait=false"]).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(space.exec("main", "cat /data/f && touch /data/g").unwrap(), "used");
    space.delete(&["pod", "main"]).unwrap();
    installed().kubectl(&["wait", "--for=delete", &format!("pv/{volume}"), "--timeout=120s"]).unwrap();
    space.leave().unwrap();
}

#[test]
fn a_claim_that_a_quota_refuses_leaves_nothing() {
    let space = namespace("quota");
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "storage"},
        "spec": {"hard": {"requests.storage": "100Mi", "persistentvolumeclaims": "5"}},
    });
    space.apply(&[quota]).unwrap();
    space.wait("resourcequota/storage", "jsonpath={.status.hard.requests\\.storage}=100Mi").unwrap();
    space.apply(&[claim("data", "quarry", "64Mi"), pod("main", "data", "true")]).unwrap();
    let refused = space.apply(&[claim("more", "quarry", "64Mi"), pod("other", "more", "true")]).unwrap_err();
    assert!(format!("{refused:#}").contains("exceeded quota"), "{refused:#}");
    space.running(&["main"]).unwrap();
    // The pod of the refused claim waits, and nothing was made for it.
    let left = space.left().unwrap();
    assert_eq!(left.len(), 2, "one volume in the API and one on a node: {left:?}");
    space.leave().unwrap();
}
