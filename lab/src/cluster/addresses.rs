//! Which addresses the machines, pods and services of a cluster have. All of them are private to the cluster's network
//! namespace, so every cluster has the same ones.

/// The control plane, and the way from the pods to everything that is no pod.
pub(crate) const CONTROL_PLANE: &str = "10.77.0.1";
/// The service addresses that the API server gives out.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The address of the service `kubernetes`, by which pods reach the API server. The control plane's namespace has it as
/// an address of its own: the kernel of the guests can neither translate addresses nor filter packets (its `nf_tables` knows
/// no family of addresses), so no kube-proxy can run. Other services have no way, and network policies no effect.
pub(crate) const API_SERVICE: &str = "10.96.0.1";
/// The API server's, the same at the service and at its own address for that reason.
pub(crate) const API_PORT: u16 = 443;
/// More than that many workers have no address.
pub(crate) const MOST_WORKERS: u8 = 200;

/// What the cables of all machines are plugged into.
pub(crate) const BRIDGE: &str = "lab0";

pub(crate) fn worker_name(number: u8) -> String {
    format!("worker-{number}")
}

pub(crate) fn worker_address(number: u8) -> String {
    format!("10.77.0.{}", 10 + number)
}

pub(crate) fn hardware_address(number: u8) -> String {
    format!("02:00:00:00:00:{:02x}", 10 + number)
}

pub(crate) fn pod_network(number: u8) -> String {
    format!("10.78.{number}.0/24")
}

pub(crate) fn tap(number: u8) -> String {
    format!("tap{number}")
}

/// What ip(8) is to do, in a namespace that is new, for the control plane and so many workers to meet.
pub(crate) fn namespace_batch(workers: u8) -> String {
    let mut lines = vec![
        String::from("link set lo up"),
        format!("address add {API_SERVICE}/32 dev lo"),
        format!("link add {BRIDGE} type bridge"),
        format!("address add {CONTROL_PLANE}/24 dev {BRIDGE}"),
        format!("link set {BRIDGE} up"),
    ];
    for number in 1..=workers {
        let tap = tap(number);
        lines.push(format!("tuntap add dev {tap} mode tap"));
        lines.push(format!("link set {tap} master {BRIDGE}"));
        lines.push(format!("link set {tap} up"));
        lines.push(format!("route add {} via {}", pod_network(number), worker_address(number)));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_worker_has_addresses_of_its_own() {
        let mut seen = BTreeSet::new();
        for number in 1..=MOST_WORKERS {
            for word in [
                worker_name(number),
                worker_address(number),
                hardware_address(number),
                pod_network(number),
                tap(number),
            ] {
                assert!(seen.insert(word));
            }
        }
        assert!(!seen.contains(CONTROL_PLANE));
    }
}
