//! The API server is away.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use quarry_lab::Command;
use quarry_trial::kubernetes::Namespace;
use quarry_trial::kubernetes::audit::time;
use quarry_trial::kubernetes::manifests::{FOLDER, claim, on_node};
use serde_json::{Value, json};

use crate::shared::{CONVERGED, WORKERS, driver_pods, installed, mount_of, plain_pod, step, turn};
use crate::writers::{Writers, name};

const AWAY: Duration = Duration::from_mins(2);
const WORKER: &str = "worker-2";

#[test]
#[ignore = "minutes long: make test-cluster"]
fn mounts_unmounts_and_stats_go_on_for_two_minutes_without_an_api_server() {
    let turn = turn("api-server-away");
    let writers = Writers::start(&turn.space, &WORKERS);
    // Its container will be killed.
    let killed = on_node(plain_pod("killed", "killed", "echo started >>/data/f"), WORKER);
    // It takes its time to end, so that its volume is unmounted when nobody can be asked any more.
    let mut leaving = on_node(plain_pod("leaving", "leaving", "true"), WORKER);
    leaving["spec"]["containers"][0]["command"] = json!(["sh", "-c", "while :; do sleep 1; done"]);
    leaving["spec"]["terminationGracePeriodSeconds"] = json!(20);
    // It will be mounted by hand, with the calls that kubelet makes. Kubelet itself gives no volume to a pod that is new:
    // it reads the claim from the API server for that, each time it tries.
    let lent = on_node(plain_pod("lent", "lent", "echo lent >>/data/f"), WORKER);
    let claims = ["killed", "leaving", "lent"].map(|name| claim(name, "quarry", "64Mi"));
    turn.space.apply(&claims).unwrap();
    turn.space.apply(&[killed, leaving, lent]).unwrap();
    turn.space.running(&["killed", "leaving", "lent"]).unwrap();
    turn.space.delete(&["pod/lent"]).unwrap();
    let lent = turn.space.bound("lent").unwrap();
    let active = format!("lvs --noheadings --options lv_active quarry/{lent}");
    soon("a volume is unstaged", || installed().on(WORKER, &active).unwrap() != "active");
    let container = turn.space.field("pod/killed", "{.status.containerStatuses[0].containerID}").unwrap();
    let container = container.trim_start_matches("containerd://").to_owned();
    let [killed_mount, leaving_mount] = ["killed", "leaving"].map(|name| mount_of(&turn.space, name, name));
    let writers_mount = writers.folder(WORKER);
    // This also lets kubelet know who asks: while the API server is away it cannot find out.
    soon("kubelet has figures", || stats(&turn.space, &name(WORKER)).is_ok());

    turn.space.kubectl(&["delete", "pod", "leaving", "--wait=false"]).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let away = Away::begin();
    let (stopped, stopped_at) = (Instant::now(), SystemTime::now());
    turn.tell("the API server is away");

    installed().on(WORKER, &format!("ctr --namespace k8s.io tasks kill --signal SIGKILL {container}")).unwrap();
    soon("kubelet starts a container again", || {
        installed().on(WORKER, &format!("cat {killed_mount}/f")).unwrap() == "started\nstarted"
    });
    turn.tell("a container that was killed runs again with its volume");
    soon("kubelet unmounts a volume", || !is_mounted(&leaving_mount));
    turn.tell("the volume of a pod that was leaving is unmounted");

    let folder = "/var/lib/kubelet/plugins/kubernetes.io/csi/by-hand";
    let target = "/var/lib/kubelet/pods/by-hand/mount";
    let id = format!("{WORKER}/{lent}");
    step(WORKER, &format!("stage {id} {folder} ext4")).unwrap();
    step(WORKER, &format!("publish {id} {folder} {target} ext4")).unwrap();
    assert_eq!(installed().on(WORKER, &format!("cat {target}/f")).unwrap(), "lent");
    println!("{}", step(WORKER, &format!("stats {id} {target}")).unwrap());
    step(WORKER, &format!("unpublish {id} {target}")).unwrap();
    step(WORKER, &format!("unstage {id} {folder}")).unwrap();
    installed().on(WORKER, "rm -r /var/lib/kubelet/pods/by-hand").unwrap();
    turn.tell("a volume was staged, published, measured, unpublished and unstaged");

    // kubelet asks the node once a minute.
    let told = || stats(&turn.space, &name(WORKER)).is_ok_and(|(at, _)| at > stopped_at + Duration::from_secs(5));
    soon("kubelet has new figures", told);
    println!("{:?}", stats(&turn.space, &name(WORKER)).unwrap());
    turn.tell("kubelet has figures of volumes that are newer than the outage");
    let log = format!("wc -l <{writers_mount}/log");
    let lines = installed().on(WORKER, &log).unwrap();
    std::thread::sleep(AWAY.saturating_sub(stopped.elapsed()));
    assert_ne!(installed().on(WORKER, &log).unwrap(), lines);

    drop(away);
    turn.tell("the API server is back");
    turn.space.running(&["killed"]).unwrap();
    turn.space.wait("pod/leaving", "delete").unwrap();
    turn.space.apply(&[claim("new", "quarry", "64Mi"), plain_pod("new", "new", "true")]).unwrap();
    turn.space.running(&["new"]).unwrap();
    turn.tell("a pod with a new volume runs");
    for (pod, _) in driver_pods("node") {
        let starts = "--output=jsonpath={.status.containerStatuses[?(@.name==\"quarry\")].restartCount}";
        println!(
            "{pod} was started again {} times",
            installed().kubectl(&["-n", "quarry", "get", "pod", &pod, starts]).unwrap()
        );
    }
    writers.unharmed();
    turn.end();
}

/// The API server is away as long as this is there, so that a test that fails leaves one to the next.
struct Away;

impl Away {
    fn begin() -> Self {
        installed().cluster.stop_api_server().unwrap();
        Self
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let started = installed().cluster.start_api_server();
        if !std::thread::panicking() {
            started.unwrap();
        }
    }
}

/// Waits without asking the API server.
fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < CONVERGED, "{what}: not within {} s", CONVERGED.as_secs());
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn is_mounted(folder: &str) -> bool {
    let command = Command::new("mountpoint").args(["--quiet", folder]);
    installed().worker(WORKER).unwrap().run(&command).unwrap().status.success()
}

/// What kubelet says of a claim's volume, as it is asked by whoever shows people how full their volumes are: when it was
/// measured, and how many bytes are used.
fn stats(space: &Namespace<'_>, claim: &str) -> Result<(SystemTime, u64)> {
    let credentials = installed().cluster.kubeconfig().with_file_name("");
    let file = |name: &str| credentials.join(name).to_string_lossy().into_owned();
    let url = format!("https://{}:10250/stats/summary", installed().worker(WORKER)?.address());
    let command = Command::new("curl").args(["--silent", "--show-error", "--fail", "--max-time", "20"]);
    let command = command.args(["--cert", &file("kubelet-client.crt"), "--key", &file("kubelet-client.key")]);
    let output = installed().cluster.run(&command.args(["--cacert", &file("ca.crt"), &url]))?.checked()?;
    let summary: Value = serde_json::from_slice(&output.stdout)?;
    let volumes = summary["pods"].as_array().into_iter().flatten().filter_map(|pod| pod["volume"].as_array());
    let of_claim = |volume: &&Value| volume["pvcRef"]["namespace"] == space.name() && volume["pvcRef"]["name"] == claim;
    let found = volumes.flatten().find(of_claim);
    let found = found.ok_or_else(|| anyhow::anyhow!("kubelet has no figures of {claim} at {FOLDER}"))?;
    Ok((time(found["time"].as_str().unwrap_or_default())?, found["usedBytes"].as_u64().unwrap_or_default()))
}
