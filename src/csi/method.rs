//! The calls of the protocol by name.

/// Calls that change something: one line in the log each.
const MUTATIONS: [&str; 15] = [
    "CreateVolume",
    "DeleteVolume",
    "ControllerPublishVolume",
    "ControllerUnpublishVolume",
    "ControllerExpandVolume",
    "ControllerModifyVolume",
    "CreateSnapshot",
    "DeleteSnapshot",
    "CreateVolumeGroupSnapshot",
    "DeleteVolumeGroupSnapshot",
    "NodeStageVolume",
    "NodeUnstageVolume",
    "NodePublishVolume",
    "NodeUnpublishVolume",
    "NodeExpandVolume",
];

/// Calls that only look; some come every few seconds.
const READS: [&str; 21] = [
    "GetPluginInfo",
    "GetPluginCapabilities",
    "Probe",
    "ValidateVolumeCapabilities",
    "ListVolumes",
    "ControllerListVolumeHealth",
    "ControllerGetVolumeHealth",
    "GetCapacity",
    "ControllerGetCapabilities",
    "ListSnapshots",
    "GetSnapshot",
    "ControllerGetVolume",
    "GroupControllerGetCapabilities",
    "GetVolumeGroupSnapshot",
    "GetMetadataAllocated",
    "GetMetadataDelta",
    "NodeGetVolumeStats",
    "NodeGetVolumeHealth",
    "NodeGetStorageHealth",
    "NodeGetCapabilities",
    "NodeGetInfo",
];

/// A call. The name is one of a fixed set, so that no caller can add series to the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    pub name: &'static str,
    pub mutates: bool,
}

impl Method {
    /// From the path of a gRPC request, such as `/csi.v1.Node/NodeStageVolume`.
    pub fn of_path(path: &str) -> Self {
        let called = path.rsplit('/').next().unwrap_or_default();
        let find = |names: &[&'static str]| names.iter().copied().find(|name| *name == called);
        match (find(&MUTATIONS), find(&READS)) {
            (Some(name), _) => Self { name, mutates: true },
            (None, Some(name)) => Self { name, mutates: false },
            (None, None) => Self { name: "unknown", mutates: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_protocol_is_either_a_mutation_or_a_read() {
        let mut protocol: Vec<&str> = include_str!("../../proto/csi.proto")
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("rpc "))
            .filter_map(|rest| rest.split('(').next())
            .collect();
        let mut known: Vec<&str> = MUTATIONS.into_iter().chain(READS).collect();
        protocol.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, protocol);
    }

    #[test]
    fn a_path_that_is_no_call_of_ours_shares_one_name() {
        for path in ["/csi.v1.Node/Nonsense", "/", "", "/grpc.health.v1.Health/Check"] {
            assert_eq!(Method::of_path(path).name, "unknown", "{path}");
        }
        assert!(Method::of_path("/csi.v1.Node/NodeStageVolume").mutates);
        assert!(!Method::of_path("/csi.v1.Identity/Probe").mutates);
    }
}
