//! What is applied to a cluster: the driver's manifests, and the claims and pods of tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use quarry_lab::BUSYBOX;
use serde_json::{Value, json};

/// Where a pod of [`pod`] has its volume.
pub const FOLDER: &str = "/data";
/// Where a pod of [`block_pod`] has its device.
pub const DEVICE: &str = "/dev/volume";
/// Kinds of what a claim can begin with: see [`claim_of`].
pub const SNAPSHOT: &str = "VolumeSnapshot";
/// The other one.
pub const CLAIM: &str = "PersistentVolumeClaim";
const SNAPSHOT_CLASS: &str = "quarry";
/// The shell's last words in a pod that shall go on: it ends at once when told to.
pub const STAY: &str = "trap 'exit 0' TERM; while :; do sleep 86400 & wait $!; done";

pub(super) fn root_of_repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The path of deploy/quarry.yaml.
pub fn file_of_the_driver() -> PathBuf {
    root_of_repository().join("deploy/quarry.yaml")
}

/// What is in it.
pub fn of_the_driver() -> Result<String> {
    std::fs::read_to_string(file_of_the_driver()).context("cannot read the manifests")
}

/// What the chart gives with values, each as Helm's `--set` takes it.
pub fn with_values(values: &[&str]) -> Result<String> {
    let root = root_of_repository();
    let mut helm = Command::new(root.join("scripts/helm"));
    helm.args(["template", "quarry"]).arg(root.join("deploy/chart"));
    helm.args(values.iter().flat_map(|value| ["--set", value]));
    let output = helm.output().context("cannot run helm")?;
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A claim of so much of a `StorageClass`, for one node.
pub fn claim(name: &str, storage_class: &str, size: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {
            "storageClassName": storage_class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
        },
    })
}

/// The same for a raw device.
pub fn block_claim(name: &str, storage_class: &str, size: &str) -> Value {
    let mut claim = claim(name, storage_class, size);
    claim["spec"]["volumeMode"] = json!("Block");
    claim
}

/// A claim that begins with what is in another one, or in a snapshot; `source` is its kind and name.
pub fn claim_of(source: (&str, &str), mut claim: Value) -> Value {
    let (kind, name) = source;
    claim["spec"]["dataSource"] = json!({"kind": kind, "name": name});
    if kind == SNAPSHOT {
        claim["spec"]["dataSource"]["apiGroup"] = json!("snapshot.storage.k8s.io");
    }
    claim
}

/// A snapshot of a claim's volume.
pub fn snapshot(name: &str, claim: &str) -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": SNAPSHOT, "metadata": {"name": name},
        "spec": {"volumeSnapshotClassName": SNAPSHOT_CLASS, "source": {"persistentVolumeClaimName": claim}},
    })
}

/// The class of [`snapshot`].
pub fn snapshot_class() -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "metadata": {"name": SNAPSHOT_CLASS},
        "driver": "lvm.quarry.storage", "deletionPolicy": "Delete",
    })
}

/// A snapshot of the volumes of all claims with these labels.
pub fn group_snapshot(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot", "metadata": {"name": name},
        "spec": {"volumeGroupSnapshotClassName": SNAPSHOT_CLASS, "source": {"selector": {"matchLabels": labels}}},
    })
}

/// The class of [`group_snapshot`].
pub fn group_snapshot_class() -> Value {
    let mut class = snapshot_class();
    class["apiVersion"] = json!("groupsnapshot.storage.k8s.io/v1");
    class["kind"] = json!("VolumeGroupSnapshotClass");
    class
}

/// A `StorageClass` of the driver with parameters, else like `quarry`.
pub fn storage_class(name: &str, parameters: &Value) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": "lvm.quarry.storage", "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true, "parameters": parameters,
    })
}

/// What a pod of these tests is: it runs a script with a claim's file system at [`FOLDER`], and stays.
pub fn pod_spec(claim: &str, script: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 2,
        "containers": [{
            "name": "main", "image": BUSYBOX, "command": ["sh", "-e", "-c", format!("{script}\n{STAY}")],
            "volumeMounts": [{"name": "data", "mountPath": FOLDER}],
        }],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    })
}

/// A pod of that kind.
pub fn pod(name: &str, claim: &str, script: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod_spec(claim, script)})
}

/// A pod with a claim's raw device at [`DEVICE`].
pub fn block_pod(name: &str, claim: &str, script: &str) -> Value {
    let mut pod = pod(name, claim, script);
    let container = &mut pod["spec"]["containers"][0];
    container["volumeMounts"] = json!([]);
    container["volumeDevices"] = json!([{"name": "data", "devicePath": DEVICE}]);
    pod
}

/// The same pod, to run on that node only. The scheduler still decides, so it waits for room there.
pub fn on_node(mut pod: Value, node: &str) -> Value {
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod
}
