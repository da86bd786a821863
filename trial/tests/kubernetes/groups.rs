//! Snapshots of several volumes at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use quarry_trial::kubernetes::Namespace;
use quarry_trial::kubernetes::manifests::{FOLDER, SNAPSHOT, claim, claim_of, group_snapshot, pod, pod_spec};
use serde_json::{Value, json};

use crate::shared::{THIN, installed, namespace};
use crate::snapshots::leave;

/// Where the pod has its second volume.
const LOG: &str = "/log";
/// Numbers its writes, each first to the one volume and, once it is there, to the other.
const WRITE: &str =
    "{ n=0; while :; do n=$((n + 1)); echo $n >>/data/numbers; sync; echo $n >>/log/numbers; sync; done; } &";
const LIMIT: Duration = Duration::from_mins(3);

/// One pod with two volumes.
fn database() -> Value {
    let mut template = pod_spec("data", WRITE);
    template["volumes"] = json!([]);
    template["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": FOLDER}, {"name": "log", "mountPath": LOG}]);
    let labels = json!({"app": "database"});
    let claims = ["data", "log"].map(|name| {
        let mut claim = claim(name, THIN, "64Mi");
        claim["metadata"]["labels"] = labels.clone();
        claim
    });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "database"},
        "spec": {
            "serviceName": "database", "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template}, "volumeClaimTemplates": claims,
        },
    })
}

/// The snapshots of a group, by their claims. They say whose they are some time after the group is ready.
fn snapshots_of(space: &Namespace<'_>, group: &str) -> BTreeMap<String, String> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = BTreeMap::new();
    let both = || {
        let all = space.object("volumesnapshots")?;
        let all = all["items"].as_array().context("a list")?;
        let of_group = all.iter().filter(|one| one["status"]["volumeGroupSnapshotName"] == group);
        let by_claim = of_group
            .map(|one| (word(&one["spec"]["source"]["persistentVolumeClaimName"]), word(&one["metadata"]["name"])));
        found = by_claim.collect();
        Ok(found.len() == 2)
    };
    installed().wait("the snapshots say which group they are of", LIMIT, both).unwrap();
    found
}

/// The last number in the copy of a snapshot; that none before it is missing is looked at, too.
fn last_number(space: &Namespace<'_>, pod: &str) -> u64 {
    let numbers = space.exec(pod, "cat /data/numbers").unwrap();
    let numbers: Vec<u64> = numbers.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{pod}: a number is missing: {numbers:?}");
    numbers.len() as u64
}

#[test]
fn copies_of_a_group_never_show_a_later_write_without_an_earlier_one() {
    let space = namespace("group-snapshot");
    space.apply(&[database()]).unwrap();
    space.running(&["database-0"]).unwrap();
    let writes = || space.can("database-0", "test $(wc -l </log/numbers) -gt 20");
    installed().wait("the pod numbers its writes", LIMIT, writes).unwrap();
    for group in ["first", "second"] {
        space.apply(&[group_snapshot(group, &json!({"app": "database"}))]).unwrap();
        space.wait(&format!("volumegroupsnapshot/{group}"), "jsonpath={.status.readyToUse}=true").unwrap();
        let snapshots = snapshots_of(&space, group);
        let last = ["data", "log"].map(|volume| {
            let snapshot = &snapshots[&format!("{volume}-database-0")];
            let copy = format!("{group}-{volume}");
            let restored = claim_of((SNAPSHOT, snapshot), claim(&copy, THIN, "64Mi"));
            space.apply(&[restored, pod(&copy, &copy, "true")]).unwrap();
            space.running(&[&copy]).unwrap();
            last_number(&space, &copy)
        });
        let [data, log] = last;
        println!("{group}: {data} in the first volume, {log} in the second");
        assert!(log > 0 && (data == log || data == log + 1), "{group}: the volumes are of two moments: {last:?}");
    }
    // A snapshot of a group goes with its group only.
    let snapshots = snapshots_of(&space, "first");
    space.delete(&["volumegroupsnapshot/first"]).unwrap();
    for snapshot in snapshots.values() {
        space.wait(&format!("volumesnapshot/{snapshot}"), "delete").unwrap();
    }
    leave(space);
}
