//! Snapshots, and volumes made of snapshots and of volumes.

use std::time::{Duration, Instant};

use quarry_trial::kubernetes::Namespace;
use quarry_trial::kubernetes::manifests::{
    CLAIM, SNAPSHOT, block_claim, block_pod, claim, claim_of, on_node, pod, snapshot,
};

use crate::placement;
use crate::shared::{SMALL, THIN, THIN_XFS, XFS, installed, namespace};

/// Keeps something to be compared, then numbers its writes.
const WRITE: &str = "dd if=/dev/urandom of=/data/bulk bs=64k count=256 2>/dev/null
sha256sum /data/bulk >/data/sum; sync
{ n=0; while :; do n=$((n + 1)); echo $n >>/data/log; sync; sleep 0.1; done; } &";
/// Longer than any of external-provisioner's or csi-snapshotter's pauses before they try again, several times.
const CONVERGED: Duration = Duration::from_mins(4);

/// A pod that writes, under the name of its claim.
fn write(space: &Namespace<'_>, claim: &str) {
    space.wait(&format!("pod/{claim}"), "condition=Ready").unwrap();
    installed().wait("the pod numbers its writes", CONVERGED, || space.can(claim, "test -s /data/log")).unwrap();
}

fn written(space: &Namespace<'_>, pod: &str) -> u64 {
    space.exec(pod, "wc -l </data/log").unwrap().parse().unwrap()
}

fn ready(space: &Namespace<'_>, snapshot: &str) {
    space.wait(&format!("volumesnapshot/{snapshot}"), "jsonpath={.status.readyToUse}=true").unwrap();
}

/// What the pod of a copy finds: nothing is torn, and the numbers are those of one moment between the two.
fn is_of_one_moment(space: &Namespace<'_>, pod: &str, earliest: u64, latest: u64) {
    space.exec(pod, "sha256sum -c /data/sum").unwrap();
    let numbers = space.exec(pod, "cat /data/log").unwrap();
    let numbers: Vec<u64> = numbers.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{pod}: a number is missing: {numbers:?}");
    let last = numbers.len() as u64;
    assert!((earliest..=latest).contains(&last), "{pod}: {last} is not between {earliest} and {latest}");
}

/// Deletes the namespace; nothing of its snapshots is left in the API, nor on any worker.
pub(crate) fn leave(space: Namespace<'_>) {
    let name = space.name().to_owned();
    let contents = || -> anyhow::Result<Vec<String>> {
        let contents = installed().list(&["volumesnapshotcontents"])?;
        let of_this =
            contents.iter().filter(|content| content["spec"]["volumeSnapshotRef"]["namespace"] == name.as_str());
        Ok(of_this.map(|content| content["status"]["snapshotHandle"].as_str().unwrap_or_default().to_owned()).collect())
    };
    let handles = contents().unwrap();
    space.leave().unwrap();
    installed().wait("the snapshots go", CONVERGED, || Ok(contents()?.is_empty())).unwrap();
    for handle in handles {
        let (worker, logical_volume) = handle.split_once('/').unwrap();
        let there = installed().on(worker, "lvs --noheadings --options lv_name").unwrap();
        assert!(!there.contains(logical_volume), "{handle} is left");
    }
}

/// Snapshot, a larger volume of it, and a clone, all beside the source, which goes on writing.
fn copies_are_of_one_moment(name: &str, storage_class: &str, size: &str, larger: &str) -> Namespace<'static> {
    let space = namespace(name);
    space.apply(&[claim("source", storage_class, size), pod("source", "source", WRITE)]).unwrap();
    write(&space, "source");
    let earliest = written(&space, "source");
    space.apply(&[snapshot("daily", "source")]).unwrap();
    ready(&space, "daily");
    let latest = written(&space, "source") + 1;
    space
        .apply(&[
            claim_of((SNAPSHOT, "daily"), claim("restored", storage_class, larger)),
            pod("restored", "restored", "true"),
            claim_of((CLAIM, "source"), claim("cloned", storage_class, size)),
            pod("cloned", "cloned", "true"),
        ])
        .unwrap();
    space.running(&["restored", "cloned"]).unwrap();
    is_of_one_moment(&space, "restored", earliest, latest);
    is_of_one_moment(&space, "cloned", latest - 1, written(&space, "source") + 1);
    let home = space.node_of("source").unwrap();
    assert_eq!(["restored", "cloned"].map(|pod| space.node_of(pod).unwrap()), [home.as_str(); 2]);
    let room = |pod: &str| space.exec(pod, "df -k /data | awk 'NR == 2 {print $2}'").unwrap().parse::<u64>().unwrap();
    assert!(room("restored") > room("source") * 3 / 2, "the file system has grown with the volume");
    let before = written(&space, "source");
    space.exec("restored", "echo mine >/data/mine; sync").unwrap();
    installed().wait("the source goes on", CONVERGED, || Ok(written(&space, "source") > before + 5)).unwrap();
    assert!(!space.can("source", "test -e /data/mine").unwrap());
    space
}

#[test]
fn a_thin_snapshot_becomes_a_volume_of_another_pod_while_its_source_goes_on_writing() {
    leave(copies_are_of_one_moment("snapshot-thin", THIN, "64Mi", "256Mi"));
}

#[test]
#[ignore = "longer than it tells more: make test-cluster"]
fn a_thin_xfs_snapshot_is_mounted_beside_its_source() {
    leave(copies_are_of_one_moment("snapshot-thin-xfs", THIN_XFS, "320Mi", "768Mi"));
}

#[test]
#[ignore = "copies block by block: make test-cluster"]
fn a_thick_xfs_snapshot_is_mounted_beside_its_source() {
    leave(copies_are_of_one_moment("snapshot-thick-xfs", XFS, "320Mi", "768Mi"));
}

#[test]
#[ignore = "copies block by block: make test-cluster"]
fn a_thick_volume_is_deleted_once_its_snapshot_is_and_until_then_the_claim_says_why() {
    let space = copies_are_of_one_moment("snapshot-thick", "quarry", "64Mi", "256Mi");
    let volume = space.bound("source").unwrap();
    space.delete(&["pod/source", "pvc/source"]).unwrap();
    // A claim that is gone has no events any more; its volume has.
    installed()
        .wait("the volume says what is in its way", CONVERGED, || {
            let field = format!("--field-selector=involvedObject.name={volume}");
            let said = installed().kubectl(&["get", "events", &field, "--output=jsonpath={.items[*].message}"])?;
            Ok(said.contains("snapshot") && said.contains("FailedPrecondition"))
        })
        .unwrap();
    // Nothing has changed: the snapshot is as good as before.
    space
        .apply(&[
            claim_of((SNAPSHOT, "daily"), claim("later", "quarry", "64Mi")),
            pod("later", "later", "sha256sum -c /data/sum"),
        ])
        .unwrap();
    space.running(&["later"]).unwrap();
    space.delete(&["volumesnapshot/daily"]).unwrap();
    let begun = Instant::now();
    installed().kubectl(&["wait", "--for=delete", &format!("pv/{volume}"), "--timeout=240s"]).unwrap();
    println!("the volume went {:?} after its snapshot", begun.elapsed());
    leave(space);
}

#[test]
#[ignore = "longer than it tells more: make test-cluster"]
fn thin_volumes_snapshots_and_copies_are_deleted_in_any_order() {
    let space = copies_are_of_one_moment("snapshot-order", THIN, "64Mi", "128Mi");
    // A snapshot of a copy of a snapshot.
    space.apply(&[snapshot("second", "restored")]).unwrap();
    ready(&space, "second");
    space
        .apply(&[
            claim_of((SNAPSHOT, "second"), claim("again", THIN, "128Mi")),
            pod("again", "again", "cat /data/mine"),
        ])
        .unwrap();
    space.running(&["again"]).unwrap();
    let volume = space.bound("source").unwrap();
    space.delete(&["pod/source", "pvc/source"]).unwrap();
    installed().kubectl(&["wait", "--for=delete", &format!("pv/{volume}"), "--timeout=60s"]).unwrap();
    let volume = space.bound("restored").unwrap();
    space.delete(&["pod/restored", "pvc/restored"]).unwrap();
    installed().kubectl(&["wait", "--for=delete", &format!("pv/{volume}"), "--timeout=60s"]).unwrap();
    // What is left of them is as good as before.
    space
        .apply(&[
            claim_of((SNAPSHOT, "daily"), claim("last", THIN, "64Mi")),
            pod("last", "last", "sha256sum -c /data/sum"),
        ])
        .unwrap();
    space.running(&["last", "again"]).unwrap();
    space.delete(&["volumesnapshot/second", "volumesnapshot/daily"]).unwrap();
    for pod in ["last", "again"] {
        space.exec(pod, "sha256sum -c /data/sum; touch /data/still-written-to; sync").unwrap();
    }
    leave(space);
}

#[test]
#[ignore = "longer than it tells more: make test-cluster"]
fn a_raw_device_is_restored_byte_for_byte() {
    for (name, storage_class) in [("snapshot-block-thin", THIN), ("snapshot-block-thick", "quarry")] {
        let space = namespace(name);
        let fill = "dd if=/dev/urandom of=/dev/volume bs=1M count=64 2>/dev/null; sync";
        space.apply(&[block_claim("source", storage_class, "64Mi"), block_pod("source", "source", fill)]).unwrap();
        space.running(&["source"]).unwrap();
        let sum = "dd if=/dev/volume bs=1M 2>/dev/null | sha256sum";
        installed().wait("the device is full", CONVERGED, || space.can("source", "! pidof dd")).unwrap();
        let filled = space.exec("source", sum).unwrap();
        space.apply(&[snapshot("daily", "source")]).unwrap();
        ready(&space, "daily");
        space.exec("source", "dd if=/dev/zero of=/dev/volume bs=1M count=4 2>/dev/null; sync").unwrap();
        assert_ne!(space.exec("source", sum).unwrap(), filled);
        let restored = claim_of((SNAPSHOT, "daily"), block_claim("restored", storage_class, "64Mi"));
        space.apply(&[restored, block_pod("restored", "restored", "true")]).unwrap();
        space.running(&["restored"]).unwrap();
        assert_eq!(space.exec("restored", sum).unwrap(), filled);
        leave(space);
    }
}

#[test]
#[ignore = "waits for the scheduler: make test-cluster"]
fn a_pod_that_may_not_run_where_the_snapshot_is_waits_and_its_claim_says_where_that_is() {
    let space = namespace("snapshot-elsewhere");
    space.apply(&[claim("source", THIN, "64Mi"), on_node(pod("source", "source", WRITE), "worker-1")]).unwrap();
    write(&space, "source");
    space.apply(&[snapshot("daily", "source")]).unwrap();
    ready(&space, "daily");
    let restored = claim_of((SNAPSHOT, "daily"), claim("restored", THIN, "64Mi"));
    space.apply(&[restored, on_node(pod("restored", "restored", "true"), "worker-2")]).unwrap();
    println!("{}", space.event("restored", "the source is on node worker-1").unwrap());
    // It is made there all the same, for another pod.
    space.bound("restored").unwrap();
    println!("{}", space.event("restored", "didn't match").unwrap());
    space.delete(&["pod/restored"]).unwrap();
    space.apply(&[pod("other", "restored", "sha256sum -c /data/sum")]).unwrap();
    space.running(&["other"]).unwrap();
    leave(space);
}

#[test]
#[ignore = "waits for the scheduler: make test-cluster"]
fn a_restore_on_a_full_node_says_so_at_the_claim_and_is_made_once_there_is_room() {
    let _turn = placement::turn();
    let space = namespace("snapshot-full");
    space.apply(&[claim("source", SMALL, "300Mi"), pod("source", "source", WRITE)]).unwrap();
    write(&space, "source");
    let home = space.node_of("source").unwrap();
    space.apply(&[snapshot("daily", "source")]).unwrap();
    ready(&space, "daily");
    space.apply(&[claim("filler", SMALL, "500Mi"), on_node(pod("filler", "filler", "true"), &home)]).unwrap();
    space.running(&["filler"]).unwrap();
    let restored = claim_of((SNAPSHOT, "daily"), claim("restored", SMALL, "300Mi"));
    // The scheduler sees the room on the other node, and that of a full one only where the pod may run nowhere else.
    space.apply(&[restored, pod("restored", "restored", "sha256sum -c /data/sum")]).unwrap();
    println!("{}", space.event("restored", "no room on this node").unwrap());
    space.delete(&["pod/filler", "pvc/filler"]).unwrap();
    space.running(&["restored"]).unwrap();
    assert_eq!(space.node_of("restored").unwrap(), home);
    leave(space);
}

#[test]
#[ignore = "waits for the scheduler: make test-cluster"]
fn pods_of_restored_volumes_come_to_the_node_of_the_snapshot() {
    const COPIES: usize = 6;
    let space = namespace("snapshot-scheduled");
    space.apply(&[claim("source", THIN, "64Mi"), on_node(pod("source", "source", WRITE), "worker-3")]).unwrap();
    write(&space, "source");
    space.apply(&[snapshot("daily", "source")]).unwrap();
    ready(&space, "daily");
    let names: Vec<String> = (1..=COPIES).map(|number| format!("copy-{number}")).collect();
    for name in &names {
        let begun = Instant::now();
        let copy = claim_of((SNAPSHOT, "daily"), claim(name, THIN, "64Mi"));
        space.apply(&[copy, pod(name, name, "sha256sum -c /data/sum")]).unwrap();
        space.running(&[name]).unwrap();
        println!("{name} runs {:?} after it was asked for", begun.elapsed());
        assert_eq!(space.node_of(name).unwrap(), "worker-3");
    }
    leave(space);
}
