//! A real Kubernetes in the lab: what it promises to the tests that use it. Takes a minute, and more the first time, when
//! Kubernetes is built.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as HostCommand, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quarry_lab::{BUSYBOX, Cluster, ClusterOptions, Command, Disk, Image, Recipe, Worker};

const LIMIT: Duration = Duration::from_mins(2);
/// Clusters side by side would only slow each other down.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything by which a cluster can be recognised after its end.
struct Traces {
    folder: PathBuf,
    network: PathBuf,
}

impl Traces {
    fn of(cluster: &Cluster) -> Self {
        let folder = cluster.kubeconfig().ancestors().nth(2).unwrap().to_owned();
        Self { folder, network: fs::read_link(cluster.network_namespace()).unwrap() }
    }

    fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let inside = fs::read_link(entry.path().join("ns/net")).is_ok_and(|network| network == self.network);
            if inside || line.contains(&*self.folder.to_string_lossy()) {
                found.push(format!("process {}: {line}", entry.file_name().to_string_lossy()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        found.extend(mounts.lines().filter(|line| line.contains(&*self.folder.to_string_lossy())).map(str::to_owned));
        if self.folder.try_exists().unwrap() {
            found.push(format!("{} is there", self.folder.display()));
        }
        found
    }

    fn assert_nothing_stays(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.found().is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(50));
        }
        assert_eq!(self.found(), Vec::<String>::new());
    }
}

fn kubectl(cluster: &Cluster, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    cluster.kubectl(&words).unwrap().checked().unwrap().text()
}

/// A pod on a worker that serves its worker's name on port 80.
fn pod(worker: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "pod-on-{worker}"}}, "spec": {{
            "nodeSelector": {{"kubernetes.io/hostname": "{worker}"}}, "terminationGracePeriodSeconds": 0,
            "containers": [{{"name": "main", "image": "{BUSYBOX}", "command": ["sh", "-c",
            "echo hello from {worker}; mkdir /www; echo {worker} >/www/index.html; exec httpd -f -p 80 -h /www"]}}]}}}}"#
    )
}

fn pod_address(cluster: &Cluster, worker: &str) -> String {
    kubectl(cluster, &format!("get pod pod-on-{worker} --output=jsonpath={{.status.podIP}}"))
}

fn wait_for_pods(cluster: &Cluster) {
    kubectl(cluster, "wait pod --all --for=condition=Ready --timeout=120s");
}

/// What the pod on one worker gets from the pod on another.
fn fetch(cluster: &Cluster, from: &str, to: &str) -> String {
    let address = pod_address(cluster, to);
    kubectl(cluster, &format!("exec pod-on-{from} -- wget -q -T 20 -O - http://{address}/"))
}

#[test]
fn pods_run_on_three_workers_and_reach_each_other_and_a_worker_survives_a_power_cut_and_nothing_stays() {
    let _turn = turn();
    let begun = Instant::now();
    let cluster = Cluster::start(&ClusterOptions::new().disk(Disk::plain("pv0", 1 << 30)).audit().verbose()).unwrap();
    println!("three workers Ready: {:?}", begun.elapsed());
    let traces = Traces::of(&cluster);
    let names: Vec<&str> = cluster.workers().iter().map(Worker::name).collect();
    assert_eq!(names, ["worker-1", "worker-2", "worker-3"]);

    let begun = Instant::now();
    for name in &names {
        cluster.apply(&pod(name)).unwrap();
    }
    wait_for_pods(&cluster);
    println!("a pod Running on each: {:?}", begun.elapsed());
    let busybox = quarry_lab::root(Recipe::Worker).unwrap().join("usr/bin/busybox").to_string_lossy().into_owned();
    for (number, name) in names.iter().enumerate() {
        assert_eq!(kubectl(&cluster, &format!("logs pod-on-{name}")), format!("hello from {name}"));
        assert_eq!(kubectl(&cluster, &format!("exec pod-on-{name} -- cat /www/index.html")), *name);
        let other = names[(number + 1) % names.len()];
        assert_eq!(fetch(&cluster, name, other), other);
        // From the control plane's side, too.
        let url = format!("http://{}/", pod_address(&cluster, name));
        let wget = Command::new(&busybox).args(["wget", "-q", "-T", "20", "-O", "-", &url]);
        assert_eq!(cluster.run(&wget).unwrap().text(), *name);
    }

    one_worker_loses_power_and_one_its_network(&cluster, &cluster.workers()[1], &cluster.workers()[2]);
    api_server_goes_away(&cluster);
    let audited = fs::read_to_string(cluster.audit_log().unwrap()).unwrap();
    assert!(audited.lines().any(|line| line.contains("pod-on-worker-1") && line.contains("\"verb\":\"create\"")));

    let begun = Instant::now();
    drop(cluster);
    println!("ended: {:?}", begun.elapsed());
    traces.assert_nothing_stays();
}

fn one_worker_loses_power_and_one_its_network(cluster: &Cluster, worker: &Worker, cut_off: &Worker) {
    let shell = |script: &str| worker.run(&Command::shell(script)).unwrap().checked().unwrap().text();
    let device = worker.device("pv0").unwrap();
    shell(&format!("echo kept | dd of={device} conv=fsync status=none"));
    let begun = Instant::now();
    worker.cut_power().unwrap();
    cluster.cut_network(cut_off).unwrap();
    assert!(worker.run(&Command::new("true")).unwrap_err().to_string().contains("no power"));
    cluster.wait_ready(worker.name(), false, LIMIT).unwrap();
    println!("not Ready any more after the power cut: {:?}", begun.elapsed());
    cluster.wait_ready(cut_off.name(), false, LIMIT).unwrap();
    println!("nor the one without its network: {:?}", begun.elapsed());
    cluster.restore_network(cut_off).unwrap();
    let begun = Instant::now();
    worker.boot().unwrap();
    cluster.wait_ready(worker.name(), true, LIMIT).unwrap();
    println!("Ready again: {:?}", begun.elapsed());
    assert_eq!(shell(&format!("head -c 4 {device}")), "kept");
    let other = cluster.workers()[0].name();
    let deadline = Instant::now() + LIMIT;
    // kubelet starts the pod's container anew, at an address of its own.
    while cluster.kubectl(&["exec", &format!("pod-on-{}", worker.name()), "--", "true"]).unwrap().checked().is_err() {
        assert!(Instant::now() < deadline, "the pod did not come back");
        sleep(Duration::from_millis(500));
    }
    wait_for_pods(cluster);
    println!("its pod runs again: {:?}", begun.elapsed());
    cluster.wait_ready(cut_off.name(), true, LIMIT).unwrap();
    println!("Ready again with its network: {:?}", begun.elapsed());
    assert_eq!(fetch(cluster, cut_off.name(), other), other);
    let restarts = "--output=jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(kubectl(cluster, &format!("get pod pod-on-{} {restarts}", cut_off.name())), "0");
    assert_eq!(fetch(cluster, other, worker.name()), worker.name());
}

fn api_server_goes_away(cluster: &Cluster) {
    let worker = &cluster.workers()[0];
    cluster.stop_api_server().unwrap();
    assert!(!cluster.kubectl(&["get", "nodes"]).unwrap().status.success());
    let running = Command::shell("ctr --namespace k8s.io tasks list | grep -c RUNNING");
    assert_eq!(worker.run(&running).unwrap().text(), "2");
    cluster.start_api_server().unwrap();
    cluster.wait_ready(worker.name(), true, LIMIT).unwrap();
    // An image under a name of choice.
    let program = cluster.programs().join("stand-in");
    let name = "registry.k8s.io/sig-storage/livenessprobe:v2.19.0";
    cluster.import(&Image::new(name).file(program, "/livenessprobe").entrypoint(["/livenessprobe"])).unwrap();
    cluster.apply(&format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "stand-in"}}, "spec": {{"restartPolicy": "Never",
            "containers": [{{"name": "main", "image": "{name}", "args": ["--version"]}}]}}}}"#
    ))
    .unwrap();
    kubectl(cluster, "wait pod stand-in --for=jsonpath={.status.phase}=Succeeded --timeout=60s");
    assert!(kubectl(cluster, "logs stand-in").contains("stand-in"));
}

/// A cluster in a process of its own, with a cache of its own that borrows what was built.
fn keeper(cache: &Path) -> Child {
    for built in [quarry_lab::root(Recipe::Worker).unwrap(), quarry_lab::programs().unwrap()] {
        symlink(&built, cache.join(built.file_name().unwrap())).unwrap();
    }
    let mut keeper = HostCommand::new(env!("CARGO_BIN_EXE_quarry-lab"));
    keeper.args(["cluster", "keep", "--workers", "1"]).env("QUARRY_CACHE", cache);
    keeper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn killing_the_owner_of_a_cluster_leaves_nothing() {
    let _turn = turn();
    let cache = tempfile::tempdir().unwrap();
    let mut keeper = keeper(cache.path());
    let lines = BufReader::new(keeper.stderr.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line.ends_with("pods can be created"));
    assert!(ready);
    let runs = cache.path().join("runs");
    let folder = |entry: fs::DirEntry| entry.path().join("credentials").is_dir().then(|| entry.path());
    let folder = fs::read_dir(&runs).unwrap().flatten().find_map(folder).unwrap();
    let access = cache.path().join("cluster/access.json");
    while !access.is_file() {
        sleep(Duration::from_millis(10));
    }
    let access: serde_json::Value = serde_json::from_slice(&fs::read(access).unwrap()).unwrap();
    let network = fs::read_link(access["network_namespace"].as_str().unwrap()).unwrap();
    let traces = Traces { folder, network };
    assert!(traces.found().len() > 5, "{:?}", traces.found());
    kill(Pid::from_raw(i32::try_from(keeper.id()).unwrap()), Signal::SIGKILL).unwrap();
    keeper.wait().unwrap();
    traces.assert_nothing_stays();
    // The guest's own folder is the launcher's to remove.
    let left = || fs::read_dir(&runs).unwrap().flatten().filter(|entry| entry.file_name() != "lock").count();
    let deadline = Instant::now() + Duration::from_secs(10);
    while left() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(50));
    }
    assert_eq!(left(), 0);
}
