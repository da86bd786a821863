//! The eleven steps from a claim to a pod that reads what it wrote, each seen, in order.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use quarry_trial::kubernetes::audit::{Entry, entries, time};
use quarry_trial::kubernetes::manifests::{claim, pod};
use quarry_trial::site::target_folder;

use crate::shared::{installed, namespace};

struct Step {
    what: &'static str,
    seen_in: &'static str,
    at: SystemTime,
}

#[test]
fn the_eleven_steps_to_a_volume_are_taken_in_order() {
    let space = namespace("eleven-steps");
    let script = "echo written >/data/f && sync && cat /data/f";
    space.apply(&[claim("data", "quarry", "64Mi"), pod("main", "data", script)]).unwrap();
    space.running(&["main"]).unwrap();
    let (volume, node) = (space.bound("data").unwrap(), space.node_of("main").unwrap());
    let claim = space.object("pvc/data").unwrap();
    let persistent = installed().object(&[&format!("pv/{volume}")]).unwrap();
    assert_eq!(claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"], node.as_str());
    assert_eq!(persistent["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
    assert_eq!(persistent["spec"]["csi"]["volumeHandle"], format!("{node}/{volume}"));

    let requests = entries(&installed().cluster).unwrap();
    let of = |user: &str, verbs: &[&str], resource: &str, name: &str| -> Entry {
        let is = |entry: &&Entry| {
            entry.succeeded()
                && entry.user.contains(user)
                && verbs.contains(&entry.verb.as_str())
                && entry.resource == resource
                && entry.name == name
                && (entry.namespace.is_empty() || entry.namespace == space.name())
        };
        let found = requests.iter().find(is);
        found.unwrap_or_else(|| panic!("{user} did not {verbs:?} {resource} {name}")).clone()
    };
    let change = ["update", "patch"];
    let claim_made = of("", &["create", "patch"], "persistentvolumeclaims", "data");
    let pod_made = of("", &["create", "patch"], "pods", "main");
    let selected = of("system:kube-scheduler", &change, "persistentvolumeclaims", "data");
    let volume_made = of("system:serviceaccount:quarry:quarry-controller", &["create"], "persistentvolumes", &volume);
    let bound = of("persistent-volume-binder", &change, "persistentvolumeclaims/status", "data");
    let pod_bound = of("system:kube-scheduler", &["create"], "pods/binding", "main");
    let clock = installed().clock_of(&node).unwrap();
    println!("{clock:?}");
    let calls = installed().done_on(&node).unwrap();
    let call =
        |method: &str| calls.iter().find(|call| call.method == method && call.subject.contains(&volume)).unwrap();
    let started = space.field("pod/main", "{.status.containerStatuses[0].state.running.startedAt}").unwrap();
    let mut read = String::new();
    let has_read = || {
        read = space.kubectl(&["logs", "main", "--timestamps"])?;
        Ok(!read.is_empty())
    };
    installed().wait("the container has read", Duration::from_mins(1), has_read).unwrap();
    let (read_at, read) = read.split_once(' ').unwrap();
    assert_eq!(read, "written");
    assert!(time(&started).unwrap() <= time(read_at).unwrap());

    let step = |what, seen_in, at| Step { what, seen_in, at };
    let steps = [
        step("The claim is there, Pending", "API server's audit log", claim_made.answered),
        step("The pod is there", "API server's audit log", pod_made.received),
        step(
            "The scheduler has chosen a node, by the room there",
            "its request to write the choice down",
            selected.received,
        ),
        step("The choice stands at the claim (`selected-node`)", "the answer to it", selected.answered),
        step("`CreateVolume` on that node is done", "the node's log", clock.here(call("CreateVolume").ended)),
        step("The PersistentVolume is there, for this claim", "API server's audit log", volume_made.answered),
        step("The claim is Bound", "API server's audit log", bound.received),
        step("The scheduler has seen it", "its request to bind the pod", pod_bound.received),
        step("The pod is bound to the node", "the answer to it", pod_bound.answered),
        step("The volume is staged and published", "the node's log", clock.here(call("NodePublishVolume").ended)),
        step("The container runs and reads back what it wrote", "its log", clock.here(time(read_at).unwrap())),
    ];
    let mut table = String::from("| | Step | Seen in | After |\n|---|---|---|---|\n");
    for (number, step) in steps.iter().enumerate() {
        let after = step.at.duration_since(claim_made.received).unwrap_or_default().as_millis();
        writeln!(table, "| {} | {} | {} | {after} ms |", number + 1, step.what, step.seen_in).unwrap();
    }
    println!("{table}");
    std::fs::create_dir_all(target_folder().unwrap().join("kubernetes")).unwrap();
    std::fs::write(target_folder().unwrap().join("kubernetes/steps.md"), &table).unwrap();
    let documented = include_str!("../../../docs/kubernetes.md");
    for (number, step) in steps.iter().enumerate() {
        let row = format!("| {} | {} | {} |", number + 1, step.what, step.seen_in);
        assert!(documented.contains(&row), "docs/kubernetes.md has no {row}");
    }
    for pair in steps.windows(2) {
        assert!(pair[0].at <= pair[1].at, "{:?} is not before {:?}\n{table}", pair[0].what, pair[1].what);
    }
    let staged = call("NodeStageVolume");
    assert!(
        pod_bound.answered <= clock.here(staged.began) + Duration::from_millis(50)
            && staged.ended <= call("NodePublishVolume").ended
    );
    space.leave().unwrap();
}
