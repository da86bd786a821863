//! Which node a volume comes to be on. One test after the other, since they fill the small group.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quarry_trial::kubernetes::Namespace;
use quarry_trial::kubernetes::manifests::{claim, on_node, pod, storage_class};
use serde_json::json;

use crate::shared::{SMALL, installed, namespace};

static TURN: Mutex<()> = Mutex::new(());

/// Waits until the small group is empty and known.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // A change of the ConfigMap reaches the nodes when kubelet looks again, and the scheduler when the provisioner does.
    installed()
        .wait("the nodes know the class small, and its room is that of empty groups", Duration::from_mins(4), || {
            let room = room(SMALL)?;
            Ok(room.len() == 3 && room.values().filter(|room| **room > 900 << 20).count() == 2)
        })
        .unwrap();
    turn
}

/// The room for a `StorageClass` by node, in bytes, as the scheduler is told.
fn room(storage_class: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let capacities = installed().list(&["--namespace=quarry", "csistoragecapacities"])?;
    let of_class = capacities.iter().filter(|capacity| capacity["storageClassName"] == storage_class);
    let entry = |capacity: &serde_json::Value| {
        let labels = capacity["nodeTopology"]["matchLabels"].as_object()?;
        let room = capacity["capacity"].as_str().map_or(Some(0), bytes)?;
        Some((labels.values().next()?.as_str()?.to_owned(), room))
    };
    Ok(of_class.filter_map(entry).collect())
}

fn bytes(quantity: &str) -> Option<u64> {
    let digits = quantity.trim_end_matches(|unit: char| !unit.is_ascii_digit());
    let unit = match &quantity[digits.len()..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok().map(|number| number * unit)
}

#[test]
fn full_nodes_send_pods_on_and_when_all_are_full_they_wait_until_there_is_room() {
    let _turn = turn();
    assert_eq!(room(SMALL).unwrap()["worker-3"], 0, "a node without the group is normal");
    let space = namespace("full");
    space.apply(&[claim("one", SMALL, "700Mi"), pod("one", "one", "true")]).unwrap();
    space.running(&["one"]).unwrap();
    // The room that the scheduler knows of may be that of a moment ago: a node without room refuses, and the pod goes on.
    space.apply(&[claim("two", SMALL, "700Mi"), pod("two", "two", "true")]).unwrap();
    space.running(&["two"]).unwrap();
    let mut nodes = ["one", "two"].map(|pod| space.node_of(pod).unwrap());
    nodes.sort();
    assert_eq!(nodes, ["worker-1", "worker-2"]);

    space.apply(&[claim("three", SMALL, "700Mi"), pod("three", "three", "true")]).unwrap();
    has_no_room(&space, "three");
    assert_eq!(space.left().unwrap().len(), 4, "two volumes, each in the API and on a node");
    space.delete(&["pod/one", "pvc/one"]).unwrap();
    space.running(&["three"]).unwrap();
    space.leave().unwrap();
}

#[test]
fn an_immediate_volume_goes_where_the_most_room_is_and_its_pod_follows() {
    let _turn = turn();
    let mut class = storage_class("small-immediate", &json!({"class": SMALL}));
    class["volumeBindingMode"] = json!("Immediate");
    installed().apply(&[class]).unwrap();
    let space = namespace("immediate");
    space.apply(&[claim("filler", SMALL, "300Mi"), on_node(pod("filler", "filler", "true"), "worker-1")]).unwrap();
    space.running(&["filler"]).unwrap();
    space.apply(&[claim("data", "small-immediate", "64Mi")]).unwrap();
    let volume = space.bound("data").unwrap();
    installed().on("worker-2", &format!("lvs --noheadings small/{volume}")).unwrap();
    space.apply(&[pod("main", "data", "true")]).unwrap();
    space.running(&["main"]).unwrap();
    assert_eq!(space.node_of("main").unwrap(), "worker-2");
    space.leave().unwrap();
}

#[test]
fn a_pod_that_may_run_only_where_the_group_is_not_waits_and_leaves_nothing() {
    let _turn = turn();
    let space = namespace("no-group");
    space.apply(&[claim("data", SMALL, "64Mi"), on_node(pod("main", "data", "true"), "worker-3")]).unwrap();
    has_no_room(&space, "main");
    assert!(space.left().unwrap().is_empty());
    // The same pod with a class that the node has.
    space.apply(&[claim("other", "quarry", "64Mi"), on_node(pod("second", "other", "true"), "worker-3")]).unwrap();
    space.running(&["second"]).unwrap();
    space.leave().unwrap();
}

/// Waits until the scheduler says at the pod that no node has room for its volume. In its events it may not: client-go counts one
/// with other words as the same again.
fn has_no_room(space: &Namespace<'_>, pod: &str) {
    let message = "{.status.conditions[?(@.type==\"PodScheduled\")].message}";
    let says = || Ok(space.field(&format!("pod/{pod}"), message)?.contains("did not have enough free storage"));
    installed().wait(&format!("{pod} finds no room"), Duration::from_mins(3), says).unwrap();
}
