//! What a captured node, a stranger in the network and a reader of logs can do: nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use quarry::csi::v1;
use quarry::tls::authority::{Keyring, Lifetimes, renewed};
use quarry_lab::{Command, Process};
use quarry_trial::client::Client;
use quarry_trial::kubernetes::manifests::{claim, pod};
use quarry_trial::kubernetes::{NAMESPACE, NODE_PODS};
use quarry_trial::site::programs_folder;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::shared::{installed, namespace};

const DRIVER: &str = "lvm.quarry.storage";

#[test]
fn a_node_has_no_token_and_its_identity_may_do_nothing() {
    let pods = installed().list(&["--namespace", NAMESPACE, "pods", NODE_PODS]).unwrap();
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        assert!(volumes.iter().all(|volume| volume["projected"].is_null()), "a token is mounted: {volumes:?}");
    }
    // And were there one: what every identity may do is to ask what it may do.
    let words = ["--namespace", NAMESPACE, "create", "token", "quarry-node"];
    let token = installed().kubectl(&words).unwrap();
    let refused = |words: &[&str]| {
        let mut all = vec!["--token", &token, "--kubeconfig=/dev/null", "--insecure-skip-tls-verify"];
        let server =
            installed().kubectl(&["config", "view", "--output=jsonpath={.clusters[0].cluster.server}"]).unwrap();
        let server = format!("--server={server}");
        all.push(&server);
        all.extend(words);
        let output = installed().cluster.kubectl(&all).unwrap();
        assert!(
            !output.status.success() && output.error_text().to_lowercase().contains("forbidden"),
            "{words:?}: {}",
            output.error_text()
        );
        assert!(output.error_text().contains("system:serviceaccount:quarry:quarry-node"), "{}", output.error_text());
    };
    for kind in [
        "pods",
        "secrets",
        "configmaps",
        "nodes",
        "persistentvolumes",
        "persistentvolumeclaims",
        "events",
        "endpointslices",
        "csinodes",
        "csistoragecapacities",
        "storageclasses",
        "leases",
        "serviceaccounts",
        "clusterroles",
    ] {
        refused(&["--namespace", NAMESPACE, "get", kind]);
        refused(&["--namespace", NAMESPACE, "delete", kind, "any"]);
    }
    refused(&["--namespace", NAMESPACE, "create", "configmap", "any"]);
    refused(&["--namespace", NAMESPACE, "create", "token", "quarry-controller"]);
    refused(&["--namespace", NAMESPACE, "annotate", "secret", "quarry-controller-tls", "a=b"]);
}

/// Certificates of the cluster, or made elsewhere, as `quarry controller` reads them.
struct Shown(TempDir);

impl Shown {
    fn of_secret(name: &str) -> Self {
        let shown = Self(tempfile::tempdir().unwrap());
        for file in ["ca.crt", "tls.crt", "tls.key"] {
            shown.write(file, &secret(name, file));
        }
        shown
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.path().join(file), text).unwrap();
    }
}

fn secret(name: &str, file: &str) -> String {
    let template = format!("--output=go-template={{{{index .data \"{file}\" | base64decode}}}}");
    installed().kubectl(&["--namespace", NAMESPACE, "get", "secret", name, &template]).unwrap() + "\n"
}

fn address(worker: &str) -> String {
    let pod = installed().node_pod(worker).unwrap();
    installed().kubectl(&["-n", NAMESPACE, "get", "pod", &pod, "--output=jsonpath={.status.podIP}"]).unwrap() + ":9809"
}

/// A controller of somebody's own in the cluster's network.
struct Stranger {
    _process: Process,
    socket: String,
}

impl Stranger {
    fn start(shown: &Shown, node: &str, address: &str) -> Result<Self> {
        let folder = shown.0.path();
        let socket = folder.join("csi.sock");
        let _ = fs::remove_file(&socket);
        let command = Command::new(programs_folder()?.join("quarry").to_string_lossy())
            .arg("controller")
            .args(["--csi-endpoint", &format!("unix://{}", socket.display())])
            .args(["--tls-folder", &folder.to_string_lossy()])
            .args(["--node", &format!("{node}={address}")]);
        let process = installed().cluster.spawn(&command, &folder.join("log"))?;
        wait_for(&socket).with_context(|| fs::read_to_string(folder.join("log")).unwrap_or_default())?;
        Ok(Self { _process: process, socket: socket.to_string_lossy().into_owned() })
    }

    async fn client(&self) -> Client {
        Client::connect(&self.socket).await.unwrap()
    }

    async fn get(&self, volume: &str) -> Status {
        let request = v1::ControllerGetVolumeRequest { volume_id: volume.to_owned() };
        self.client().await.controller.controller_get_volume(request).await.unwrap_err()
    }
}

fn wait_for(socket: &Path) -> Result<()> {
    for _ in 0..200 {
        if socket.try_exists()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("no controller serves at {}", socket.display())
}

#[tokio::test]
async fn a_node_takes_calls_from_the_holder_of_the_controllers_certificate_only() {
    let address = address("worker-1");
    let own = Shown::of_secret("quarry-controller-tls");
    let status = Stranger::start(&own, "worker-1", &address).unwrap().get("worker-1/none").await;
    assert_eq!(status.code(), Code::NotFound, "the way there is open: {status:?}");

    let of_node = Shown::of_secret("quarry-node-tls");
    let self_made = Shown::of_secret("quarry-controller-tls");
    let keyring = renewed(&Keyring::default(), DRIVER, &Lifetimes::default(), std::time::SystemTime::now()).unwrap();
    self_made.write("tls.crt", &keyring.controller.certificate);
    self_made.write("tls.key", &keyring.controller.key);
    for (whose, shown) in [("a node's", of_node), ("a self-made", self_made)] {
        let status = Stranger::start(&shown, "worker-1", &address).unwrap().get("worker-1/none").await;
        assert_eq!(status.code(), Code::Unavailable, "{whose} certificate: {status:?}");
        println!("{whose} certificate: {}", status.message());
    }
}

#[tokio::test]
async fn a_controller_believes_no_server_that_is_not_a_node() {
    let shown = Shown::of_secret("quarry-controller-tls");
    let keyring = renewed(&Keyring::default(), DRIVER, &Lifetimes::default(), std::time::SystemTime::now()).unwrap();
    // It trusts somebody else's authority only, so the cluster's node is the impostor here.
    shown.write("ca.crt", &keyring.trusted());
    let status = Stranger::start(&shown, "worker-1", &address("worker-1")).unwrap().get("worker-1/none").await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    println!("{}", status.message());
}

#[tokio::test]
async fn a_node_refuses_what_is_another_nodes() {
    let shown = Shown::of_secret("quarry-controller-tls");
    // The address of worker-2 under the name of worker-1: as when an address was given to another pod.
    let stranger = Stranger::start(&shown, "worker-1", &address("worker-2")).unwrap();
    let status = stranger.get("worker-1/pvc-any").await;
    assert_ne!(status.code(), Code::Ok, "{status:?}");
    let request = v1::DeleteVolumeRequest { volume_id: "worker-1/pvc-any".into(), ..Default::default() };
    let answer = stranger.client().await.controller.delete_volume(request).await;
    println!("{}", answer.expect_err("it said that another node's volume is gone").message());
}

#[test]
fn a_request_without_tls_is_refused() {
    let (host, port) =
        address("worker-1").rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    // The beginning of HTTP/2; a server that speaks it answers with its settings at once. One that does not may hang
    // up after the first line, while bash still writes the others.
    let script = format!(
        "trap '' PIPE; exec 3<>/dev/tcp/{host}/{port}; printf 'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0' >&3; timeout 10 cat <&3 | od -An -tx1 | head -n 1"
    );
    let answer =
        installed().cluster.run(&Command::new("bash").args(["-c", &script])).unwrap().checked().unwrap().text();
    // At most an alert of TLS (type 15).
    assert!(answer.is_empty() || answer.starts_with("15 03"), "{answer}");
}

#[test]
fn no_log_has_a_secret_in_it() {
    let space = namespace("secrets");
    space.apply(&[claim("data", "quarry", "64Mi"), pod("main", "data", "true")]).unwrap();
    space.running(&["main"]).unwrap();
    space.leave().unwrap();
    let selector = "--selector=app.kubernetes.io/name=quarry";
    let logs = installed().kubectl(&["-n", NAMESPACE, "logs", selector, "--all-containers", "--tail=-1"]).unwrap();
    assert!(logs.contains("CreateVolume"), "these are the logs of the driver");
    for name in ["quarry-controller-tls", "quarry-node-tls"] {
        let key = secret(name, "tls.key");
        for line in key.lines().filter(|line| line.len() >= 32 && !line.starts_with('-')) {
            assert!(!logs.contains(line), "a part of a key of {name} is in a log");
        }
    }
    assert!(!logs.contains("PRIVATE KEY"));
}
