//! Requests of the `GroupController` service.

use super::snapshot::check;
use crate::csi::request::text;
use crate::csi::v1;
use crate::error::{Error, Result};
use crate::lvm::volume_id::VolumeId;

/// A checked request for snapshots of several volumes at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateGroupSnapshot {
    /// Its name.
    pub name: String,
    /// The node that all the volumes are on, by its topology value.
    pub node: String,
    /// The logical volumes' names, in their order, each once.
    pub sources: Vec<String>,
}

impl CreateGroupSnapshot {
    /// Checks the request as far as it can be checked for itself: also that the volumes can be held together at all.
    pub fn parse(request: &v1::CreateVolumeGroupSnapshotRequest) -> Result<Self> {
        let name = text::required("name", &request.name)?.to_owned();
        check("group snapshots", &name, &request.secrets, &request.parameters)?;
        let mut ids = Vec::with_capacity(request.source_volume_ids.len());
        for id in &request.source_volume_ids {
            text::required("source_volume_ids", id)?;
            ids.push(VolumeId::parse(id).ok_or_else(|| Error::no_volume(id))?);
        }
        let Some(first) = ids.first().cloned() else {
            return Err(Error::invalid("source_volume_ids", "is missing"));
        };
        if let Some(other) = ids.iter().find(|id| id.node != first.node) {
            return Err(Error::precondition(format!(
                "{first} is on node {:?} and {other} on node {:?}; only volumes of one node can be held together",
                first.node, other.node
            )));
        }
        let mut sources: Vec<String> = ids.into_iter().map(|id| id.logical_volume).collect();
        sources.sort();
        if let Some([twice, _]) = sources.array_windows().find(|[one, other]| one == other) {
            return Err(Error::invalid("source_volume_ids", format!("names {twice} twice")));
        }
        Ok(Self { name, node: first.node, sources })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic::Code;

    use super::*;

    fn request(ids: &[&str]) -> v1::CreateVolumeGroupSnapshotRequest {
        v1::CreateVolumeGroupSnapshotRequest {
            name: String::from("groupsnapshot-1"),
            source_volume_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..v1::CreateVolumeGroupSnapshotRequest::default()
        }
    }

    #[test]
    fn volumes_of_one_node_come_in_their_order() {
        let parsed = CreateGroupSnapshot::parse(&request(&["n1/pvc-b", "n1/pvc-a"])).unwrap();
        assert_eq!((parsed.node.as_str(), parsed.sources), ("n1", vec!["pvc-a".to_owned(), "pvc-b".to_owned()]));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        let parameters = HashMap::from([(String::from("size"), String::from("x"))]);
        for (request, code, told) in [
            (request(&[]), Code::InvalidArgument, "source_volume_ids: is missing"),
            (request(&["n1/a", ""]), Code::InvalidArgument, "source_volume_ids: is missing"),
            (request(&["n1/a", "n1/a"]), Code::InvalidArgument, "source_volume_ids: names a twice"),
            (request(&["n1/a", "a"]), Code::NotFound, "volume \"a\" does not exist"),
            (request(&["n1/a", "n2/b"]), Code::FailedPrecondition, "n1/a is on node \"n1\" and n2/b on node \"n2\""),
            (
                v1::CreateVolumeGroupSnapshotRequest { name: String::new(), ..request(&["n1/a"]) },
                Code::InvalidArgument,
                "name: is missing",
            ),
            (
                v1::CreateVolumeGroupSnapshotRequest { parameters, ..request(&["n1/a"]) },
                Code::InvalidArgument,
                "parameters.size: is no parameter",
            ),
        ] {
            let error = CreateGroupSnapshot::parse(&request).unwrap_err();
            assert_eq!(error.code(), code);
            assert!(error.to_string().starts_with(told), "{error}");
        }
    }
}
