//! The cluster was away for years, and every certificate has expired meanwhile.

use std::time::{Duration, SystemTime};

use quarry::tls::authority::{Keyring, Lifetimes, Pair, renewed};
use quarry_trial::kubernetes::NAMESPACE;
use quarry_trial::kubernetes::manifests::{claim, on_node};
use serde_json::{Value, json};

use crate::shared::{WORKERS, driver_pods, installed, plain_pod, turn};
use crate::writers::Writers;

#[test]
#[ignore = "minutes long: make test-cluster"]
fn certificates_that_expired_while_away_are_replaced_without_a_hand_or_a_restart() {
    let turn = turn("certificates-expired");
    let writers = Writers::start(&turn.space, &WORKERS);
    let old = on_node(plain_pod("old", "old", "echo old >>/data/f"), "worker-1");
    turn.space.apply(&[claim("old", "quarry", "64Mi"), old.clone()]).unwrap();
    turn.space.running(&["old"]).unwrap();
    turn.space.delete(&["pod/old"]).unwrap();

    scale(0);
    let then = SystemTime::now() - Duration::from_hours(24 * 4000);
    let expired = renewed(&Keyring::default(), "lvm.quarry.storage", &Lifetimes::default(), then).unwrap();
    put("quarry-controller-tls", &expired, &expired.controller, json!({"ca.key": expired.authority_keys()}));
    put("quarry-node-tls", &expired, &expired.node, json!({}));
    installed().kubectl(&["-n", NAMESPACE, "rollout", "restart", "daemonset/quarry-node"]).unwrap();
    installed().kubectl(&["-n", NAMESPACE, "rollout", "status", "daemonset/quarry-node", "--timeout=180s"]).unwrap();
    let nodes = driver_pods("node");
    for (pod, worker) in &nodes {
        let uid = ["-n", NAMESPACE, "get", "pod", pod, "--output=jsonpath={.metadata.uid}"];
        let folder =
            format!("/var/lib/kubelet/pods/{}/volumes/kubernetes.io~secret", installed().kubectl(&uid).unwrap());
        let shown = installed().on(worker, &format!("cat {folder}/tls/tls.crt")).unwrap();
        assert_eq!(shown, expired.node.certificate.trim(), "{pod} has an expired certificate");
    }
    turn.tell("the controller is away, and the nodes have expired certificates only");
    // Mounting needs neither.
    turn.space.apply(&[old]).unwrap();
    turn.space.running(&["old"]).unwrap();
    turn.tell("a pod with its old volume runs");

    turn.space.apply(&[claim("new", "quarry", "64Mi"), plain_pod("new", "new", "echo new >/data/f")]).unwrap();
    scale(2);
    turn.tell("the controller is back");
    turn.space.running(&["new"]).unwrap();
    turn.tell("a pod with a new volume runs");
    assert_eq!(driver_pods("node"), nodes, "no node was replaced");
    let starts =
        ["-n", NAMESPACE, "get", "pods", "--output=jsonpath={.items[*].status.containerStatuses[*].restartCount}"];
    println!("restarts of containers: {}", installed().kubectl(&starts).unwrap());
    for (pod, _) in &nodes {
        let starts = "--output=jsonpath={.status.containerStatuses[?(@.name==\"quarry\")].restartCount}";
        assert_eq!(installed().kubectl(&["-n", NAMESPACE, "get", "pod", pod, starts]).unwrap(), "0", "{pod}");
    }
    writers.unharmed();
    turn.end();
}

fn scale(replicas: u8) {
    let replicas = format!("--replicas={replicas}");
    installed().kubectl(&["-n", NAMESPACE, "scale", "deployment/quarry-controller", &replicas]).unwrap();
    if replicas == "--replicas=0" {
        let gone = ["-n", NAMESPACE, "wait", "pods", "--selector=app.kubernetes.io/component=controller"];
        installed().kubectl(&[&gone[..], &["--for=delete", "--timeout=120s"]].concat()).unwrap();
    }
}

/// Puts certificates into a Secret as the controller does.
fn put(secret: &str, ring: &Keyring, shown: &Pair, mut more: Value) {
    more["ca.crt"] = json!(ring.trusted());
    more["tls.crt"] = json!(shown.certificate);
    more["tls.key"] = json!(shown.key);
    let patch = json!({"stringData": more}).to_string();
    installed().kubectl(&["-n", NAMESPACE, "patch", "secret", secret, "--type=merge", "--patch", &patch]).unwrap();
}
