//! Which nodes there are and where: Node objects say which exist and which have the driver, `EndpointSlices` where it
//! answers.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::seen::Seen;
use crate::controller::membership::{Member, Membership, Nodes};

/// The label of an `EndpointSlice` that names its Service.
const SERVICE: &str = "kubernetes.io/service-name";
/// The name of the port of the Service at which nodes serve the controller.
const PORT: &str = "csi";

/// How long changes are gathered before the nodes are put together anew: a rollout changes thousands one by one.
const GATHERING: Duration = Duration::from_millis(100);

/// Watches until the stop. There are no nodes before both lists were complete once.
pub fn watch(
    client: &Client,
    namespace: &str,
    service: &str,
    topology_key: String,
    stop: CancellationToken,
) -> Membership {
    let nodes = watcher(Api::<PartialObjectMeta<Node>>::all(client.clone()), watcher::Config::default());
    let slices = watcher(
        Api::<EndpointSlice>::namespaced(client.clone(), namespace),
        watcher::Config::default().labels(&format!("{SERVICE}={service}")),
    );
    let (sender, receiver) = watch::channel(Arc::new(Nodes::default()));
    let (nodes, slices) = (told("Nodes", nodes.default_backoff()), told("EndpointSlices", slices.default_backoff()));
    tokio::spawn(async move {
        stop.run_until_cancelled(follow(nodes, slices, &topology_key, &sender)).await;
    });
    receiver
}

/// The events; failures are told and got over.
fn told<T: Send + 'static>(
    what: &'static str,
    events: impl Stream<Item = watcher::Result<Event<T>>> + Send + 'static,
) -> BoxStream<'static, Event<T>> {
    let event = move |event: watcher::Result<Event<T>>| {
        ready(event.inspect_err(|error| tracing::warn!(%error, "could not watch {what}; trying again")).ok())
    };
    events.filter_map(event).boxed()
}

/// Shows what follows from the events, as long as there are any.
async fn follow(
    mut nodes: impl Stream<Item = Event<PartialObjectMeta<Node>>> + Unpin,
    mut slices: impl Stream<Item = Event<EndpointSlice>> + Unpin,
    topology_key: &str,
    sender: &watch::Sender<Arc<Nodes>>,
) {
    let (mut seen_nodes, mut seen_slices) = (Seen::new(), Seen::new());
    let mut due: Option<Instant> = None;
    loop {
        let is_different = tokio::select! {
            Some(event) = nodes.next() => seen_nodes.take(event, |node| node.labels().contains_key(topology_key)),
            Some(event) = slices.next() => seen_slices.take(event, addresses),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                due = None;
                if let (Some(nodes), Some(slices)) = (seen_nodes.known(), seen_slices.known()) {
                    show(assembled(nodes, slices.values().flatten()), sender);
                }
                false
            }
            else => return,
        };
        if is_different {
            due.get_or_insert_with(|| Instant::now() + GATHERING);
        }
    }
}

/// Every call looks at the nodes, so they are compared and dropped while nobody has to wait for it.
fn show(nodes: Nodes, sender: &watch::Sender<Arc<Nodes>>) {
    let before = sender.borrow().clone();
    if *before != nodes {
        tracing::debug!(nodes = nodes.len(), "the nodes have changed");
        sender.send_replace(Arc::new(nodes));
    }
}

/// Puts both together. `nodes` are all that exist, and whether the driver is known to be on them.
fn assembled<'s>(nodes: &BTreeMap<String, bool>, endpoints: impl IntoIterator<Item = &'s Place>) -> Nodes {
    let mut best: BTreeMap<&str, &Place> = BTreeMap::new();
    for endpoint in endpoints {
        let known = best.entry(&endpoint.node).or_insert(endpoint);
        if endpoint.fitness > known.fitness {
            *known = endpoint;
        }
    }
    let mut elsewhere = Vec::new();
    let mut members: Vec<Member> = Vec::new();
    for (name, has_driver) in nodes {
        let endpoint = best.get(name.as_str());
        if *has_driver || endpoint.is_some() {
            members.push(Member { name: name.clone(), address: endpoint.map(|endpoint| endpoint.address.clone()) });
        } else {
            elsewhere.push(name.clone());
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

/// Where a node may answer.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    node: String,
    /// `HOST:PORT`.
    address: String,
    fitness: Fitness,
}

fn addresses(slice: &EndpointSlice) -> Vec<Place> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let port = ports.iter().find(|port| port.name.as_deref() == Some(PORT)).or(ports.first());
    let Some(port) = port.and_then(|port| port.port) else { return Vec::new() };
    let address = |endpoint: &Endpoint| {
        let (node, host) = (endpoint.node_name.clone()?, endpoint.addresses.first()?);
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let stays = !conditions.terminating.unwrap_or(false);
        let fitness = Fitness { stays, is_ready: conditions.ready.unwrap_or(true) };
        Some(Place { node, address: format!("{host}:{port}"), fitness })
    };
    slice.endpoints.iter().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{iter, pending};
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    const KEY: &str = "topology.lvm.quarry.storage/node";

    fn place(node: &str, address: &str, stays: bool, is_ready: bool) -> Place {
        Place { node: node.to_owned(), address: address.to_owned(), fitness: Fitness { stays, is_ready } }
    }

    fn slice(json: &str) -> EndpointSlice {
        serde_json::from_str(json).unwrap()
    }

    fn node(number: usize, has_driver: bool) -> PartialObjectMeta<Node> {
        let mut node = PartialObjectMeta::default();
        node.metadata.name = Some(format!("node-{number}"));
        node.metadata.labels = has_driver.then(|| [(KEY.to_owned(), String::from("x"))].into());
        node
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
        let expected = [place("a", "10.0.0.1:9809", true, true), place("b", "[fd00::1]:9809", true, false)];
        assert_eq!(addresses(&slice), expected);
    }

    #[test]
    fn nodes_with_the_driver_are_known_whether_or_not_it_runs_and_the_others_exist() {
        let nodes = [("a", true), ("b", true), ("c", false), ("d", false)].map(|(name, has)| (name.to_owned(), has));
        let endpoints = [
            place("a", "10.0.0.1:1", false, true),
            place("a", "10.0.0.2:1", true, false),
            place("c", "10.0.0.3:1", true, true),
            place("gone", "10.0.0.4:1", true, true),
        ];
        let known = assembled(&nodes.into(), &endpoints);
        let address = |name| known.get(name).map(|member| member.address.as_deref());
        assert_eq!(address("a"), Some(Some("10.0.0.2:1")), "the new pod, not the one that ends");
        assert_eq!((address("b"), address("c")), (Some(None), Some(Some("10.0.0.3:1"))));
        assert_eq!((address("d"), address("gone")), (None, None));
        assert!(known.is_complete() && known.exists("d") && !known.exists("gone"));
    }

    #[tokio::test(start_paused = true)]
    async fn thousands_of_changes_at_once_are_shown_in_one() {
        let (sender, mut receiver) = watch::channel(Arc::new(Nodes::default()));
        let (events, nodes) = mpsc::unbounded_channel();
        let slices = iter([Event::Init, Event::InitDone]).chain(pending());
        tokio::spawn(async move { follow(UnboundedReceiverStream::new(nodes), slices, KEY, &sender).await });
        // All that was sent is shown when nothing moves for longer than it is gathered.
        let mut shown = async || {
            let mut shown = Vec::new();
            while tokio::time::timeout(GATHERING * 2, receiver.changed()).await.is_ok() {
                shown.push(receiver.borrow_and_update().len());
            }
            shown
        };
        let send = |event| events.send(event).unwrap();
        let list = |has_driver| {
            send(Event::Init);
            (0..5_000).for_each(|number| send(Event::InitApply(node(number, has_driver))));
        };
        list(true);
        assert_eq!(shown().await, [] as [usize; 0], "the list is not complete");
        send(Event::InitDone);
        assert_eq!(shown().await, [5_000]);
        // The labels go, one after the other.
        (0..5_000).for_each(|number| send(Event::Apply(node(number, false))));
        assert_eq!(shown().await, [0]);
        list(true);
        send(Event::InitDone);
        assert_eq!(shown().await, [5_000]);
        (0..5_000).for_each(|number| send(Event::Apply(node(number, true))));
        assert_eq!(shown().await, [] as [usize; 0], "heartbeats");
    }
}
