//! `CreateSnapshotRequest`.

use std::collections::HashMap;

use super::create::{ORCHESTRATOR_PREFIX, topologies};
use crate::csi::request::text;
use crate::csi::v1;
use crate::error::{Error, Result};
use crate::lvm::names::check_csi_name;

/// A checked request for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSnapshot {
    /// Its name.
    pub name: String,
    /// The volume.
    pub source_volume_id: String,
    /// The topologies it may be in; none means anywhere.
    pub topologies: Vec<HashMap<String, String>>,
}

impl CreateSnapshot {
    /// Checks the request as far as it can be checked for itself.
    pub fn parse(request: &v1::CreateSnapshotRequest) -> Result<Self> {
        let name = text::required("name", &request.name)?.to_owned();
        let source_volume_id = text::required("source_volume_id", &request.source_volume_id)?.to_owned();
        check("snapshots", &name, &request.secrets, &request.parameters)?;
        let topologies = topologies(request.accessibility_requirements.as_ref());
        Ok(Self { name, source_volume_id, topologies })
    }
}

/// That the name is one, and that no parameter is given: snapshots, of one volume or of several, have none.
pub(super) fn check(
    what: &str,
    name: &str,
    secrets: &HashMap<String, String>,
    parameters: &HashMap<String, String>,
) -> Result<()> {
    check_csi_name(name).map_err(|problem| Error::invalid("name", problem))?;
    text::map("secrets", secrets)?;
    text::map("parameters", parameters)?;
    match parameters.keys().find(|key| !key.starts_with(ORCHESTRATOR_PREFIX)) {
        None => Ok(()),
        Some(key) => {
            let problem = format!("is no parameter of this driver; {what} have none");
            Err(Error::invalid(format!("parameters.{key}"), problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::CreateSnapshotRequest {
        v1::CreateSnapshotRequest {
            name: String::from("snapshot-1"),
            source_volume_id: String::from("n1/pvc-1"),
            ..v1::CreateSnapshotRequest::default()
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let parameter = |key: &str| HashMap::from([(key.to_owned(), String::from("x"))]);
        for (request, told) in [
            (v1::CreateSnapshotRequest { name: String::new(), ..request() }, "name: is missing"),
            (
                v1::CreateSnapshotRequest { source_volume_id: String::new(), ..request() },
                "source_volume_id: is missing",
            ),
            (v1::CreateSnapshotRequest { name: String::from("a\u{7}"), ..request() }, "name: contains"),
            (
                v1::CreateSnapshotRequest { parameters: parameter("size"), ..request() },
                "parameters.size: is no parameter",
            ),
        ] {
            let error = CreateSnapshot::parse(&request).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
        let added = v1::CreateSnapshotRequest { parameters: parameter("csi.storage.k8s.io/x"), ..request() };
        assert!(CreateSnapshot::parse(&added).is_ok());
    }
}
