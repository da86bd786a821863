//! How volumes are used: access modes, owners, mounts, devices, file systems.

use quarry_trial::kubernetes::manifests::{block_claim, block_pod, claim, pod, pod_spec, storage_class};
use serde_json::json;

use crate::shared::{BTRFS, XFS, installed, namespace};

#[test]
fn a_raw_block_volume_is_a_device_in_its_pod_and_keeps_what_is_written() {
    let space = namespace("block");
    let script = "[ -b /dev/volume ] && echo signed | dd of=/dev/volume bs=512 seek=100 conv=fsync 2>/dev/null";
    space.apply(&[block_claim("data", "quarry", "64Mi"), block_pod("first", "data", script)]).unwrap();
    space.running(&["first"]).unwrap();
    assert_eq!(space.exec("first", "blockdev --getsize64 /dev/volume").unwrap(), (64 << 20).to_string());
    space.delete(&["pod", "first"]).unwrap();
    space.apply(&[block_pod("second", "data", "true")]).unwrap();
    space.running(&["second"]).unwrap();
    let read = "dd if=/dev/volume bs=512 skip=100 count=1 2>/dev/null | head -n 1";
    assert_eq!(space.exec("second", read).unwrap(), "signed");
    space.leave().unwrap();
}

#[test]
fn a_second_pod_must_wait_for_a_volume_of_one_pod() {
    let space = namespace("one-pod");
    let mut claim = claim("data", "quarry", "64Mi");
    claim["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    space.apply(&[claim, pod("first", "data", "true")]).unwrap();
    space.running(&["first"]).unwrap();
    space.apply(&[pod("second", "data", "true")]).unwrap();
    space.wait("pod/second", "condition=PodScheduled=False").unwrap();
    let reason = space.field("pod/second", "{.status.conditions[?(@.type==\"PodScheduled\")].message}").unwrap();
    assert!(reason.contains("ReadWriteOncePod"), "{reason}");
    space.delete(&["pod", "first"]).unwrap();
    space.running(&["second"]).unwrap();
    space.leave().unwrap();
}

#[test]
fn two_pods_on_one_node_share_a_volume_of_one_node() {
    let space = namespace("one-node");
    space.apply(&[claim("data", "quarry", "64Mi"), pod("first", "data", "echo shared >/data/f")]).unwrap();
    space.running(&["first"]).unwrap();
    space.apply(&[pod("second", "data", "grep shared /data/f && echo more >>/data/f")]).unwrap();
    space.running(&["second"]).unwrap();
    assert_eq!(space.node_of("first").unwrap(), space.node_of("second").unwrap());
    // The end of one is not the end of the other's mount.
    space.delete(&["pod", "first"]).unwrap();
    assert_eq!(space.exec("second", "cat /data/f && touch /data/g").unwrap(), "shared\nmore");
    space.leave().unwrap();
}

#[test]
fn files_belong_to_the_group_of_the_pod() {
    let space = namespace("fs-group");
    let mut owned = pod("owned", "data", "echo mine >/data/f");
    owned["spec"]["securityContext"] = json!({"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000});
    space.apply(&[claim("data", "quarry", "64Mi"), owned]).unwrap();
    space.running(&["owned"]).unwrap();
    assert_eq!(space.exec("owned", "stat -c %g /data /data/f").unwrap(), "2000\n2000");
    space.leave().unwrap();
}

#[test]
fn a_read_only_mount_cannot_be_written_to() {
    let space = namespace("read-only");
    let reader = |name: &str, of_claim: bool| {
        let mut reader = pod(name, "data", "cat /data/f");
        if of_claim {
            reader["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] = json!(true);
        } else {
            reader["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = json!(true);
        }
        reader
    };
    space.apply(&[claim("data", "quarry", "64Mi"), pod("writer", "data", "echo written >/data/f")]).unwrap();
    space.running(&["writer"]).unwrap();
    space.apply(&[reader("by-mount", false), reader("by-claim", true)]).unwrap();
    space.running(&["by-mount", "by-claim"]).unwrap();
    for name in ["by-mount", "by-claim"] {
        assert_eq!(space.exec(name, "cat /data/f").unwrap(), "written");
        assert!(!space.can(name, "echo over >/data/f").unwrap(), "{name} could write");
    }
    assert!(space.can("writer", "echo more >>/data/f").unwrap());
    space.leave().unwrap();
}

#[test]
fn mount_options_of_a_class_are_in_force() {
    let mut class = storage_class("quarry-noatime", &json!({}));
    class["mountOptions"] = json!(["noatime", "commit=31"]);
    installed().apply(&[class]).unwrap();
    let space = namespace("mount-options");
    space.apply(&[claim("data", "quarry-noatime", "64Mi"), pod("main", "data", "true")]).unwrap();
    space.running(&["main"]).unwrap();
    let mount = space.exec("main", "grep ' /data ' /proc/mounts").unwrap();
    assert!(mount.contains("noatime") && mount.contains("commit=31"), "{mount}");
    space.leave().unwrap();
}

#[test]
fn a_mount_option_that_nothing_takes_is_told_at_the_pod() {
    let mut class = storage_class("quarry-misspelt", &json!({}));
    class["mountOptions"] = json!(["noatimes"]);
    installed().apply(&[class]).unwrap();
    let space = namespace("misspelt-option");
    space.apply(&[claim("data", "quarry-misspelt", "64Mi"), pod("main", "data", "true")]).unwrap();
    let said = space.event("data", "noatimes").unwrap();
    println!("{said}");
    space.leave().unwrap();
}

fn file_system_is(space: &str, storage_class: &str, name: &str) {
    let space = namespace(space);
    // Each file system has a least size; 320 MiB is enough for all.
    let script = "grep -q result /data/f 2>/dev/null || echo result >/data/f";
    space.apply(&[claim("data", storage_class, "320Mi"), pod("first", "data", script)]).unwrap();
    space.running(&["first"]).unwrap();
    assert_eq!(space.exec("first", "awk '$2 == \"/data\" {print $3}' /proc/mounts").unwrap(), name);
    space.delete(&["pod", "first"]).unwrap();
    let mut spec = pod_spec("data", "grep result /data/f");
    spec["restartPolicy"] = json!("Never");
    space.apply(&[json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "second"}, "spec": spec})]).unwrap();
    space.running(&["second"]).unwrap();
    space.leave().unwrap();
}

#[test]
fn ext4_is_what_a_volume_has_by_default() {
    file_system_is("ext4", "quarry", "ext4");
}

#[test]
fn a_volume_has_xfs_where_the_class_says_so() {
    file_system_is("xfs", XFS, "xfs");
}

#[test]
fn a_volume_has_btrfs_where_the_class_says_so() {
    file_system_is("btrfs", BTRFS, "btrfs");
}
