//! Volumes grow when their claims are edited.

use quarry_trial::kubernetes::Namespace;
use quarry_trial::kubernetes::manifests::{block_claim, block_pod, claim, pod};
use serde_json::json;

use crate::shared::{BTRFS, XFS, namespace};

fn ask_for(space: &Namespace<'_>, size: &str) -> anyhow::Result<String> {
    let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}}).to_string();
    space.kubectl(&["patch", "pvc", "data", "--patch", &patch])
}

fn grown(space: &Namespace<'_>, size: &str) {
    space.wait("pvc/data", &format!("jsonpath={{.status.capacity.storage}}={size}")).unwrap();
}

fn file_system_grows(space: &str, storage_class: &str) {
    let space = namespace(space);
    let script = "while :; do date >>/data/log; sync; sleep 0.1; done &";
    space.apply(&[claim("data", storage_class, "320Mi"), pod("main", "data", script)]).unwrap();
    space.running(&["main"]).unwrap();
    let room = || space.exec("main", "df -k /data | awk 'NR == 2 {print $2}'").unwrap().parse::<u64>().unwrap();
    let before = room();
    ask_for(&space, "640Mi").unwrap();
    grown(&space, "640Mi");
    assert!(room() > before + (280 << 10), "{before} KiB before, {} KiB after", room());
    // In use all the time.
    assert_eq!(space.field("pod/main", "{.status.containerStatuses[0].restartCount}").unwrap(), "0");
    assert!(space.can("main", "tail -n 1 /data/log && touch /data/f").unwrap());
    space.leave().unwrap();
}

#[test]
fn an_ext4_volume_grows_while_it_is_used() {
    file_system_grows("grow-ext4", "quarry");
}

#[test]
#[ignore = "kubelet looks once a minute: make test-cluster"]
fn an_xfs_volume_grows_while_it_is_used() {
    file_system_grows("grow-xfs", XFS);
}

#[test]
#[ignore = "kubelet looks once a minute: make test-cluster"]
fn a_btrfs_volume_grows_while_it_is_used() {
    file_system_grows("grow-btrfs", BTRFS);
}

#[test]
fn a_raw_block_volume_grows_while_it_is_used() {
    let space = namespace("grow-block");
    space.apply(&[block_claim("data", "quarry", "64Mi"), block_pod("main", "data", "true")]).unwrap();
    space.running(&["main"]).unwrap();
    ask_for(&space, "128Mi").unwrap();
    grown(&space, "128Mi");
    assert_eq!(space.exec("main", "blockdev --getsize64 /dev/volume").unwrap(), (128 << 20).to_string());
    space.leave().unwrap();
}

#[test]
fn a_volume_without_a_pod_grows_and_its_file_system_with_the_next_pod() {
    let space = namespace("grow-offline");
    space.apply(&[claim("data", "quarry", "64Mi"), pod("first", "data", "echo kept >/data/f")]).unwrap();
    space.running(&["first"]).unwrap();
    space.delete(&["pod", "first"]).unwrap();
    ask_for(&space, "256Mi").unwrap();
    space.wait("pvc/data", "condition=FileSystemResizePending").unwrap();
    space.apply(&[pod("second", "data", "grep kept /data/f")]).unwrap();
    space.running(&["second"]).unwrap();
    grown(&space, "256Mi");
    let room: u64 = space.exec("second", "df -k /data | awk 'NR == 2 {print $2}'").unwrap().parse().unwrap();
    assert!(room > 200 << 10, "{room} KiB");
    space.leave().unwrap();
}

#[test]
#[ignore = "kubelet looks once a minute: make test-cluster"]
fn growth_beyond_the_room_is_told_and_the_wish_can_be_lowered() {
    let space = namespace("grow-too-far");
    space.apply(&[claim("data", "quarry", "64Mi"), pod("main", "data", "echo kept >/data/f")]).unwrap();
    space.running(&["main"]).unwrap();
    ask_for(&space, "1Ti").unwrap();
    let said = space.event("data", "OutOfRange").unwrap();
    println!("{said}");
    assert!(space.can("main", "grep kept /data/f && touch /data/g").unwrap());
    // Kubernetes takes a lower wish, as long as it is more than there is.
    ask_for(&space, "128Mi").unwrap();
    grown(&space, "128Mi");
    assert!(space.can("main", "grep kept /data/f").unwrap());
    space.leave().unwrap();
}
