//! The kinds of workloads that have volumes.

use quarry_lab::BUSYBOX;
use quarry_trial::kubernetes::manifests::{STAY, claim, pod_spec};
use serde_json::json;

use crate::shared::{installed, namespace};

#[test]
fn a_deployment_has_its_data_again_in_its_next_pod() {
    let space = namespace("deployment");
    let script = "date +%s%N >>/data/starts";
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"},
        "spec": {
            "replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": {"app": "app"}},
            "template": {"metadata": {"labels": {"app": "app"}}, "spec": pod_spec("data", script)},
        },
    });
    space.apply(&[claim("data", "quarry", "64Mi"), deployment]).unwrap();
    space.kubectl(&["rollout", "status", "deployment/app", "--timeout=120s"]).unwrap();
    space.kubectl(&["rollout", "restart", "deployment/app"]).unwrap();
    space.kubectl(&["rollout", "status", "deployment/app", "--timeout=120s"]).unwrap();
    assert_eq!(space.exec("deployment/app", "wc -l </data/starts").unwrap(), "2");
    space.leave().unwrap();
}

#[test]
fn a_stateful_set_has_a_volume_for_each_pod_on_three_nodes() {
    let space = namespace("stateful-set");
    let mut template = pod_spec("data", "hostname >>/data/names");
    template["volumes"] = json!([]);
    template["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "db"}},
    }]);
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {
            "serviceName": "db", "replicas": 3, "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": template},
            "volumeClaimTemplates": [claim("data", "quarry", "64Mi")],
        },
    });
    space.apply(&[set]).unwrap();
    let pods = ["db-0", "db-1", "db-2"];
    space.running(&pods).unwrap();
    let nodes = pods.map(|pod| space.node_of(pod).unwrap());
    let different: std::collections::BTreeSet<_> = nodes.iter().collect();
    assert_eq!(different.len(), 3, "{nodes:?}");

    // Each finds its own data again, where it lies.
    space.delete(&["pod", "db-1"]).unwrap();
    space.running(&pods).unwrap();
    assert_eq!(space.node_of("db-1").unwrap(), nodes[1]);
    let names = pods.map(|pod| space.exec(pod, "cat /data/names").unwrap());
    assert_eq!(names, ["db-0", "db-1\ndb-1", "db-2"]);
    space.leave().unwrap();
}

#[test]
fn a_generic_ephemeral_volume_goes_with_its_pod() {
    let space = namespace("ephemeral");
    let template = claim("", "quarry", "64Mi")["spec"].clone();
    let mut spec = pod_spec("unused", "echo scratch >/data/f");
    spec["volumes"] = json!([{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": template}}}]);
    space.apply(&[json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "job"}, "spec": spec})]).unwrap();
    space.running(&["job"]).unwrap();
    let volume = space.bound("job-data").unwrap();
    assert_eq!(space.exec("job", "cat /data/f").unwrap(), "scratch");
    space.delete(&["pod", "job"]).unwrap();
    space.wait("pvc/job-data", "delete").unwrap();
    installed().kubectl(&["wait", "--for=delete", &format!("pv/{volume}"), "--timeout=120s"]).unwrap();
    space.leave().unwrap();
}

#[test]
fn containers_of_a_pod_share_a_volume_by_sub_paths() {
    let space = namespace("sub-path");
    let mut spec = pod_spec("data", "echo one >/data/f");
    spec["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data", "subPath": "first/folder"}]);
    let mut second = spec["containers"][0].clone();
    second["name"] = json!("second");
    second["command"] = json!(["sh", "-c", STAY]);
    second["volumeMounts"] = json!([
        {"name": "data", "mountPath": "/all"},
        {"name": "data", "mountPath": "/read-only", "subPath": "first", "readOnly": true},
    ]);
    spec["containers"].as_array_mut().unwrap().push(second);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "two"}, "spec": spec});
    space.apply(&[claim("data", "quarry", "64Mi"), pod]).unwrap();
    space.running(&["two"]).unwrap();
    let in_second = |script: &str| space.kubectl(&["exec", "two", "--container=second", "--", "sh", "-c", script]);
    assert_eq!(in_second("cat /all/first/folder/f /read-only/folder/f").unwrap(), "one\none");
    assert!(in_second("touch /read-only/g").is_err());
    space.leave().unwrap();
}

#[test]
fn a_job_ends_and_its_volume_serves_the_next_one() {
    let space = namespace("jobs");
    let job = |name: &str, script: &str| {
        let mut spec = pod_spec("data", "");
        spec["restartPolicy"] = json!("Never");
        spec["containers"][0]["image"] = json!(BUSYBOX);
        spec["containers"][0]["command"] = json!(["sh", "-e", "-c", script]);
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {"spec": spec}},
        })
    };
    space.apply(&[claim("data", "quarry", "64Mi"), job("first", "echo result >/data/f")]).unwrap();
    space.wait("job/first", "condition=Complete").unwrap();
    space.apply(&[job("second", "grep result /data/f")]).unwrap();
    space.wait("job/second", "condition=Complete").unwrap();
    space.leave().unwrap();
}
