//! Which nodes there are and where: Node objects say which exist and which have the driver, `EndpointSlices` where it
//! answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::controller::membership::{Member, Membership, Nodes};

/// The label of an `EndpointSlice` that names its Service.
const SERVICE: &str = "kubernetes.io/service-name";
/// The name of the port of the Service at which nodes serve the controller.
const PORT: &str = "csi";

/// Watches until the stop. There are no nodes before both lists were complete once.
pub fn watch(
    client: &Client,
    namespace: &str,
    service: &str,
    topology_key: String,
    stop: CancellationToken,
) -> Membership {
    let (node_store, node_writer) = reflector::store();
    let (slice_store, slice_writer) = reflector::store();
    let nodes = watcher(Api::<PartialObjectMeta<Node>>::all(client.clone()), watcher::Config::default());
    let nodes = nodes.default_backoff().reflect(node_writer);
    let slices = watcher(
        Api::<EndpointSlice>::namespaced(client.clone(), namespace),
        watcher::Config::default().labels(&format!("{SERVICE}={service}")),
    );
    let slices = slices.default_backoff().reflect(slice_writer);
    let (sender, receiver) = watch::channel(Arc::new(Nodes::default()));
    tokio::spawn(async move {
        let changes = futures_util::stream::select(told("Nodes", nodes), told("EndpointSlices", slices));
        let mut changes = std::pin::pin!(changes);
        while let Some(Some(())) = stop.run_until_cancelled(changes.next()).await {
            if let Some(known) = known(&node_store, &slice_store, &topology_key) {
                sender.send_if_modified(|before| {
                    let is_new = **before != known;
                    if is_new {
                        tracing::debug!(nodes = known.len(), "the nodes have changed");
                        *before = Arc::new(known);
                    }
                    is_new
                });
            }
        }
    });
    receiver
}

/// Something changed; failures are told and got over.
fn told<T>(what: &'static str, events: impl Stream<Item = watcher::Result<T>>) -> impl Stream<Item = ()> {
    events.map(move |event| {
        if let Err(error) = event {
            tracing::warn!(%error, "could not watch {what}; trying again");
        }
    })
}

/// The nodes, once both lists were complete.
fn known(nodes: &Store<PartialObjectMeta<Node>>, slices: &Store<EndpointSlice>, topology_key: &str) -> Option<Nodes> {
    let is_complete = |ready: Option<_>| matches!(ready, Some(Ok(())));
    let nodes_ready = is_complete(futures_util::FutureExt::now_or_never(nodes.wait_until_ready()));
    let slices_ready = is_complete(futures_util::FutureExt::now_or_never(slices.wait_until_ready()));
    (nodes_ready && slices_ready).then(|| {
        let names = nodes.state().into_iter().map(|node| {
            let has_driver = node.labels().contains_key(topology_key);
            (node.name_any(), has_driver)
        });
        let slices = slices.state();
        assembled(names, slices.iter().flat_map(|slice| addresses(slice)))
    })
}

/// Puts both together. `nodes` are all that exist, and whether the driver is known to be on them; `endpoints` are
/// names of nodes, addresses, and how good each is.
fn assembled(
    nodes: impl IntoIterator<Item = (String, bool)>,
    endpoints: impl IntoIterator<Item = (String, String, Fitness)>,
) -> Nodes {
    let mut best: BTreeMap<String, (String, Fitness)> = BTreeMap::new();
    for (node, address, fitness) in endpoints {
        match best.get(&node) {
            Some((_, known)) if *known >= fitness => {}
            _ => drop(best.insert(node, (address, fitness))),
        }
    }
    let mut elsewhere = Vec::new();
    let mut members: Vec<Member> = Vec::new();
    for (name, has_driver) in nodes {
        if has_driver || best.contains_key(&name) {
            members.push(Member { address: best.remove(&name).map(|(address, _)| address), name });
        } else {
            elsewhere.push(name);
        }
    }
    Nodes::all(members, elsewhere)
}

/// How good an endpoint is. While a node's pod is replaced it has two: one that stays is better than one that is about to
/// end, ready or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fitness {
    stays: bool,
    is_ready: bool,
}

fn addresses(slice: &EndpointSlice) -> Vec<(String, String, Fitness)> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let port = ports.iter().find(|port| port.name.as_deref() == Some(PORT)).or(ports.first());
    let Some(port) = port.and_then(|port| port.port) else { return Vec::new() };
    let address = |endpoint: &Endpoint| {
        let (node, host) = (endpoint.node_name.clone()?, endpoint.addresses.first()?);
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let stays = !conditions.terminating.unwrap_or(false);
        let fitness = Fitness { stays, is_ready: conditions.ready.unwrap_or(true) };
        Some((node, format!("{host}:{port}"), fitness))
    };
    slice.endpoints.iter().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitness(stays: bool, is_ready: bool) -> Fitness {
        Fitness { stays, is_ready }
    }

    fn slice(json: &str) -> EndpointSlice {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_endpoint_is_where_its_node_answers() {
        let slice = slice(
            r#"{"addressType": "IPv4", "metadata": {"name": "s"},
                "ports": [{"name": "metrics", "port": 9808}, {"name": "csi", "port": 9809}],
                "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "a", "conditions": {"ready": true}},
                              {"addresses": ["fd00::1"], "nodeName": "b", "conditions": {"ready": false}},
                              {"addresses": ["10.0.0.9"]}]}"#,
        );
        let expected = [
            (String::from("a"), String::from("10.0.0.1:9809"), fitness(true, true)),
            (String::from("b"), String::from("[fd00::1]:9809"), fitness(true, false)),
        ];
        assert_eq!(addresses(&slice), expected);
    }

    #[test]
    fn nodes_with_the_driver_are_known_whether_or_not_it_runs_and_the_others_exist() {
        let nodes = [("a", true), ("b", true), ("c", false), ("d", false)].map(|(name, has)| (name.to_owned(), has));
        let endpoints = [
            ("a", "10.0.0.1:1", fitness(false, true)),
            ("a", "10.0.0.2:1", fitness(true, false)),
            ("c", "10.0.0.3:1", fitness(true, true)),
            ("gone", "10.0.0.4:1", fitness(true, true)),
        ];
        let endpoints = endpoints.map(|(name, address, fitness)| (name.to_owned(), address.to_owned(), fitness));
        let known = assembled(nodes, endpoints);
        let address = |name| known.get(name).map(|member| member.address.as_deref());
        assert_eq!(address("a"), Some(Some("10.0.0.2:1")), "the new pod, not the one that ends");
        assert_eq!((address("b"), address("c")), (Some(None), Some(Some("10.0.0.3:1"))));
        assert_eq!((address("d"), address("gone")), (None, None));
        assert!(known.is_complete() && known.exists("d") && !known.exists("gone"));
    }
}
