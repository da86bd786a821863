//! A real Kubernetes that loses everything it knew, and a node that is lost and comes back: no data goes with them.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use anyhow::Result;
use quarry_lab::{BUSYBOX, Command, Worker};
use quarry_trial::kubernetes::{Installed, NAMESPACE};
use serde_json::Value;

const LIMIT: Duration = Duration::from_mins(4);
const MANIFESTS: &str = include_str!("../../deploy/quarry.yaml");
const CLAIMS: &str = "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: files}
spec:
  storageClassName: quarry
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 64Mi}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: raw}
spec:
  storageClassName: quarry
  volumeMode: Block
  accessModes: [ReadWriteOncePod]
  resources: {requests: {storage: 64Mi}}
";

/// Two pods, each with one of the claims, running these scripts and then waiting.
fn pods(name: &str, on_files: &str, on_raw: &str) -> String {
    let pod = |claim: &str, script: &str, shown: &str| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}-{claim}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, '{script} && exec sleep 100000']
    {shown}
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]
"
        )
    };
    let mounted = pod("files", on_files, "volumeMounts: [{name: data, mountPath: /data}]");
    mounted + "---\n" + &pod("raw", on_raw, "volumeDevices: [{name: data, devicePath: /dev/data}]")
}

/// A cluster in which things go wrong.
struct Stand(Installed);

impl Stand {
    /// Waits until a pod has printed something.
    fn wait_printed(&self, pod: &str, text: &str) {
        let printed = || Ok(self.0.cluster.kubectl(&["logs", pod])?.text().contains(text));
        let took = self.0.wait(&format!("{pod} prints {text}"), LIMIT, printed).unwrap();
        println!("{pod} printed {text} after {took:?}");
    }

    /// `quarry` in the controller's pod; `None` as long as there is no pod to run it in, or it fails.
    fn quarry(&self, words: &[&str]) -> Option<String> {
        let exec = ["-n", NAMESPACE, "exec", "deploy/quarry-controller", "-c", "quarry", "--", "quarry"];
        let output = self.0.cluster.kubectl(&[&exec, words].concat()).unwrap();
        println!("$ quarry {}\n{}{}", words.join(" "), output.text(), output.error_text());
        output.status.success().then(|| output.text())
    }

    /// The id of the volume of a claim.
    fn volume_of(&self, claim: &str) -> Result<String> {
        let claim = self.0.object(&["pvc", claim])?;
        let volume = self.0.object(&["pv", claim["spec"]["volumeName"].as_str().unwrap_or_default()])?;
        Ok(volume["spec"]["csi"]["volumeHandle"].as_str().unwrap_or_default().to_owned())
    }

    fn worker(&self, name: &str) -> &Worker {
        self.0.cluster.workers().iter().find(|worker| worker.name() == name).unwrap()
    }

    /// Names and UUIDs of all logical volumes of all workers.
    fn logical_volumes(&self) -> Vec<String> {
        let list = Command::new("lvs").args(["--noheadings", "-o", "lv_name,lv_uuid"]);
        let lists = self.0.cluster.workers().iter().map(|worker| worker.run(&list).unwrap().checked().unwrap().text());
        let mut volumes: Vec<String> =
            lists.flat_map(|list| list.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()).collect();
        volumes.sort();
        volumes
    }

    fn roll_out(&self) {
        for what in ["daemonset/quarry-node", "deployment/quarry-controller"] {
            self.0.kubectl(&["-n", NAMESPACE, "rollout", "status", what, "--timeout=240s"]).unwrap();
        }
    }

    /// The messages of the events with this reason.
    fn events(&self, reason: &str) -> Vec<Value> {
        let selector = format!("--field-selector=reason={reason}");
        self.0.object(&["events", "--all-namespaces", &selector]).unwrap()["items"].as_array().unwrap().clone()
    }

    /// What the metrics of the controllers say of orphans.
    fn orphans_counted(&self) -> Vec<String> {
        let selector = "--selector=app.kubernetes.io/component=controller";
        let pods = self.0.object(&["-n", NAMESPACE, "pods", selector]).unwrap();
        let names = pods["items"].as_array().unwrap().iter().map(|pod| pod["metadata"]["name"].as_str().unwrap());
        let metrics = names.map(|name| {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:9808/proxy/metrics");
            self.0.cluster.kubectl(&["get", "--raw", &path]).unwrap().text()
        });
        metrics
            .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("quarry_orphans ").map(str::to_owned)))
            .collect()
    }
}

#[test]
#[ignore = "minutes long: make test-cluster"]
fn no_data_is_lost_with_etcd_nor_with_a_node_that_comes_back() {
    let stand = Stand(Installed::start(2, 4 << 30).unwrap());
    stand.0.cluster.apply(CLAIMS).unwrap();
    let write = pods(
        "writer",
        "echo kept-in-a-file >/data/f && sync && echo done",
        "echo kept-on-the-device | dd of=/dev/data conv=fsync && echo done",
    );
    stand.0.cluster.apply(&write).unwrap();
    for pod in ["writer-files", "writer-raw"] {
        stand.wait_printed(pod, "done");
    }
    let made = Instant::now();
    etcd_is_lost(&stand);
    a_node_is_lost_and_comes_back(&stand, made);
}

fn etcd_is_lost(stand: &Stand) {
    let before = (stand.logical_volumes(), ["files", "raw"].map(|claim| stand.volume_of(claim).unwrap()));
    stand.0.cluster.lose_etcd().unwrap();
    assert_eq!(stand.0.object(&["pv"]).unwrap()["items"].as_array().map(Vec::len), Some(0));
    // A lost node need not be waited for so long here.
    stand.0.cluster.apply(&MANIFESTS.replace("--lost-node-after=300", "--lost-node-after=5")).unwrap();
    stand.roll_out();
    let mut manifests = None;
    let recovered = || {
        manifests = stand.quarry(&["recover-pvs"]);
        Ok(manifests.is_some())
    };
    stand.0.wait("recover-pvs", LIMIT, recovered).unwrap();
    let shown = stand.quarry(&["orphans"]).unwrap();
    assert!(!shown.contains("quarry orphans --remove"), "all volumes look like orphans now: {shown}");
    stand.0.cluster.apply(&manifests.unwrap()).unwrap();
    stand.0.cluster.apply(CLAIMS).unwrap();
    let read = pods("reader", "cat /data/f", "head -n 1 /dev/data");
    stand.0.cluster.apply(&read).unwrap();
    stand.wait_printed("reader-files", "kept-in-a-file");
    stand.wait_printed("reader-raw", "kept-on-the-device");
    let after = (stand.logical_volumes(), ["files", "raw"].map(|claim| stand.volume_of(claim).unwrap()));
    assert_eq!(after, before, "the same volumes, and no others");
    assert_eq!(stand.quarry(&["orphans"]).unwrap().trim(), "no orphans");
}

fn a_node_is_lost_and_comes_back(stand: &Stand, made: Instant) {
    let id = stand.volume_of("files").unwrap();
    let (node, volume) = id.split_once('/').unwrap();
    let retained = stand.0.object(&["pv", volume]).unwrap();
    assert_eq!(retained["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    let patch = r#"--patch={"spec": {"persistentVolumeReclaimPolicy": "Delete"}}"#;
    stand.0.kubectl(&["patch", "pv", volume, patch]).unwrap();
    stand.worker(node).cut_power().unwrap();
    stand.0.kubectl(&["delete", "node", node]).unwrap();
    stand.0.kubectl(&["delete", "pod", "reader-files", "--force"]).unwrap();
    stand.0.kubectl(&["delete", "pvc", "files"]).unwrap();
    let gone = || {
        let output = stand.0.cluster.kubectl(&["get", "pv", volume, "--ignore-not-found", "--output=name"])?;
        Ok(output.status.success() && output.text().trim().is_empty())
    };
    let took = stand.0.wait("the volume of the lost node is given up", LIMIT, gone).unwrap();
    println!("given up after {took:?}");
    let about = |event: &Value| event["involvedObject"]["kind"].as_str().unwrap_or_default().to_owned();
    let told = || {
        let kinds: Vec<String> = stand.events("VolumeGivenUp").iter().map(about).collect();
        Ok(kinds.iter().any(|kind| kind == "PersistentVolume")
            && kinds.iter().any(|kind| kind == "PersistentVolumeClaim"))
    };
    stand.0.wait("events tell what was given up", LIMIT, told).unwrap();

    // So that the look at the node that has come does not find its volume too young to be judged.
    std::thread::sleep(Duration::from_mins(2).saturating_sub(made.elapsed()));
    stand.worker(node).boot().unwrap();
    stand.0.cluster.wait_ready(node, true, LIMIT).unwrap();
    let mut orphans = Value::Null;
    let shown = || {
        let json = stand.quarry(&["orphans", "--output=json"]).unwrap_or_default();
        orphans = serde_json::from_str(&json).unwrap_or_default();
        Ok(orphans["orphans"].as_array().is_some_and(|orphans| !orphans.is_empty()))
    };
    stand.0.wait("the orphan is shown", LIMIT, shown).unwrap();
    assert_eq!(orphans["orphans"].as_array().unwrap().len(), 1);
    let orphan = &orphans["orphans"][0];
    assert_eq!((orphan["id"].as_str(), orphan["claim"].as_str()), (Some(id.as_str()), Some("default/files")));
    assert_eq!(orphan["remove"], format!("quarry orphans --remove {id}"));
    let counted = || Ok(stand.orphans_counted().iter().any(|count| count == "1"));
    stand.0.wait("a metric counts it", LIMIT, counted).unwrap();
    let told = || Ok(stand.events("OrphanedVolumes").iter().any(|event| event["involvedObject"]["name"] == node));
    stand.0.wait("an event on the node tells of it", LIMIT, told).unwrap();
    stand.quarry(&["orphans"]).unwrap();

    // What was used is removed only by a person.
    assert!(stand.logical_volumes().iter().any(|line| line.starts_with(volume)));
    stand.quarry(&["orphans", "--remove", &id]).unwrap();
    let gone = || Ok(!stand.logical_volumes().iter().any(|line| line.starts_with(volume)));
    stand.0.wait("the orphan goes", LIMIT, gone).unwrap();
    assert_eq!(stand.quarry(&["orphans"]).unwrap().trim(), "no orphans");
}
