//! The Controller service of a node, over its own volume groups. Parse, call, answer.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::config::classes::Class;
use crate::csi::capabilities::controller_capabilities;
use crate::csi::condition::Deletable;
use crate::csi::observe::subject;
use crate::csi::request::capability::{Access, Capability};
use crate::csi::request::create::{ContentSource, CreateVolume, Parameters};
use crate::csi::request::size::SizeRange;
use crate::csi::request::snapshot::CreateSnapshot;
use crate::csi::request::text;
use crate::csi::v1;
use crate::csi::v1::controller_server::Controller;
use crate::csi::v1::volume_content_source::{self, SnapshotSource, VolumeSource};
use crate::error::{Error, Result};
use crate::lvm::names::is_snapshot_name;
use crate::node::Node;
use crate::node::capacity::Capacity;
use crate::node::copy::Source;
use crate::node::create::{NewVolume, chosen_class};
use crate::node::health::{Condition, Severity};
use crate::node::list::{AT_ONCE, PageRequest, answerable, next_token};
use crate::node::snapshot::VolumeSnapshot;
use crate::node::snapshot::list::Wanted;
use crate::node::uses::{check_least_size, check_uses, check_volume, least_bytes};
use crate::node::volume::Volume;

/// The Controller service of a node.
#[derive(Clone)]
pub struct ControllerService {
    /// The node that does the work.
    pub node: Arc<Node>,
}

impl ControllerService {
    fn volume(&self, volume: &Volume) -> Result<v1::Volume> {
        Ok(v1::Volume {
            capacity_bytes: signed(volume.bytes())?,
            volume_id: self.node.volume_id(&volume.logical.name),
            volume_context: HashMap::new(),
            content_source: volume.tags.copied.as_ref().map(|copied| self.content_source(&copied.source)),
            accessible_topology: vec![self.node.topology()],
        })
    }

    /// What a volume was copied from, which may be gone by now.
    fn content_source(&self, logical_name: &str) -> v1::VolumeContentSource {
        let id = self.node.volume_id(logical_name);
        let source = if is_snapshot_name(logical_name) {
            volume_content_source::Type::Snapshot(SnapshotSource { snapshot_id: id })
        } else {
            volume_content_source::Type::Volume(VolumeSource { volume_id: id })
        };
        v1::VolumeContentSource { r#type: Some(source) }
    }

    async fn create(&self, request: &v1::CreateVolumeRequest) -> Result<v1::CreateVolumeResponse> {
        let create = CreateVolume::parse(request)?;
        let class = chosen_class(&self.node, create.parameters.class.as_deref())?;
        check_uses(&class, &create.capabilities, &create.parameters)?;
        self.ensure_wanted_here(&create.topologies)?;
        check_least_size(&class, &create)?;
        let new = NewVolume {
            file_system: create.file_system().map(String::from),
            single_user: create.is_for_one_user(),
            raw: create.is_raw(),
            // A block volume is never formatted.
            mkfs_options: if create.is_mounted() { create.parameters.mkfs_options } else { Vec::new() },
            name: create.name,
            size: create.size,
            class,
            claim: create.parameters.claim,
            source: match create.source {
                Some(ContentSource::Snapshot(id)) => Some(self.node.source(&id, Source::Snapshot)?),
                Some(ContentSource::Volume(id)) => Some(self.node.source(&id, Source::Volume)?),
                None => None,
            },
        };
        let volume = self.node.create(new).await?;
        Ok(v1::CreateVolumeResponse { volume: Some(self.volume(&volume)?) })
    }

    fn ensure_wanted_here(&self, topologies: &[HashMap<String, String>]) -> Result<()> {
        if topologies.is_empty() || topologies.iter().any(|segments| self.node.is_here(segments)) {
            return Ok(());
        }
        let here = &self.node.identity.topology;
        Err(Error::NoRoom { reason: format!("accessibility_requirements name other nodes; this is node {here:?}") })
    }

    pub(super) async fn snapshot(&self, snapshot: &VolumeSnapshot) -> Result<v1::Snapshot> {
        let group = snapshot.tags.group.as_deref();
        Ok(v1::Snapshot {
            size_bytes: signed(snapshot.bytes())?,
            snapshot_id: self.node.volume_id(&snapshot.logical.name),
            source_volume_id: self.node.volume_id(&snapshot.tags.source),
            creation_time: Some(timestamp(snapshot.taken())),
            ready_to_use: self.node.is_whole(snapshot).await?,
            group_snapshot_id: group.map(|group| self.node.group_snapshot_id(group)).unwrap_or_default(),
            accessible_topology: vec![self.node.topology()],
        })
    }

    async fn create_snapshot(&self, request: &v1::CreateSnapshotRequest) -> Result<v1::CreateSnapshotResponse> {
        let create = CreateSnapshot::parse(request)?;
        self.ensure_wanted_here(&create.topologies).map_err(Error::of_snapshot)?;
        let snapshot = self.node.create_snapshot(create.name, &create.source_volume_id).await?;
        Ok(v1::CreateSnapshotResponse { snapshot: Some(self.snapshot(&snapshot).await?) })
    }

    async fn list_snapshots(&self, request: &v1::ListSnapshotsRequest) -> Result<v1::ListSnapshotsResponse> {
        let wanted = Wanted { source_volume_id: &request.source_volume_id, snapshot_id: &request.snapshot_id };
        let asked = PageRequest::parse(request.max_entries, &request.starting_token, AT_ONCE)?;
        let mut rest = self.node.list_snapshots(wanted, asked).await?;
        let (mut listed, mut entries) = (Vec::new(), Vec::new());
        for snapshot in rest.by_ref().take(asked.most) {
            entries.push(v1::list_snapshots_response::Entry { snapshot: Some(self.snapshot(&snapshot).await?) });
            listed.push(snapshot.logical);
        }
        let (entries, next_token) = answerable(&listed, entries, next_token(listed.last(), rest));
        Ok(v1::ListSnapshotsResponse { entries, next_token })
    }

    async fn known(&self, volume_id: &str) -> Result<Volume> {
        text::required("volume_id", volume_id)?;
        self.node.volume(&self.node.known_name(volume_id)?).await
    }

    async fn validate(
        &self,
        request: &v1::ValidateVolumeCapabilitiesRequest,
    ) -> Result<v1::ValidateVolumeCapabilitiesResponse> {
        text::required("volume_id", &request.volume_id)?;
        if request.volume_capabilities.is_empty() {
            return Err(Error::invalid("volume_capabilities", "is missing"));
        }
        let volume = self.known(&request.volume_id).await?;
        let checked = Capability::list("volume_capabilities", &request.volume_capabilities).and_then(|capabilities| {
            let parameters = Parameters::parse(&request.parameters)?;
            if let Some(key) = request.mutable_parameters.keys().next() {
                return Err(Error::invalid(format!("mutable_parameters.{key}"), "is no parameter of this driver"));
            }
            check_volume(&volume, &capabilities, &parameters)?;
            let class = self.node.class(&volume.tags.class).map_or_else(|| chosen_class(&self.node, None), Ok)?;
            check_uses(&class, &capabilities, &parameters)
        });
        Ok(match checked {
            Ok(()) => v1::ValidateVolumeCapabilitiesResponse {
                confirmed: Some(v1::validate_volume_capabilities_response::Confirmed {
                    volume_context: request.volume_context.clone(),
                    volume_capabilities: request.volume_capabilities.clone(),
                    parameters: request.parameters.clone(),
                    mutable_parameters: request.mutable_parameters.clone(),
                }),
                message: String::new(),
            },
            Err(problem) => v1::ValidateVolumeCapabilitiesResponse { confirmed: None, message: problem.to_string() },
        })
    }

    async fn list(&self, request: &v1::ListVolumesRequest) -> Result<v1::ListVolumesResponse> {
        let asked = PageRequest::parse(request.max_entries, &request.starting_token, AT_ONCE)?;
        let (classes, mut rest) = (self.node.classes.current(), self.node.list(asked).await?);
        let (mut listed, mut entries) = (Vec::new(), Vec::new());
        for volume in rest.by_ref().take(asked.most) {
            let told = v1::Volume { volume_context: volume.facts(&classes).to_context(), ..self.volume(&volume)? };
            entries.push(v1::list_volumes_response::Entry { volume: Some(told), status: None });
            listed.push(volume.logical);
        }
        let (entries, next_token) = answerable(&listed, entries, next_token(listed.last(), rest));
        Ok(v1::ListVolumesResponse { entries, next_token })
    }

    async fn capacity(&self, request: &v1::GetCapacityRequest) -> Result<v1::GetCapacityResponse> {
        let is_here = request.accessible_topology.as_ref().is_none_or(|topology| self.node.is_here(&topology.segments));
        let parameters = Parameters::parse(&request.parameters)?;
        // What cannot be made here has no room here; an error would leave the old figure standing.
        let capacity = match self.usable(request, &parameters) {
            Ok((class, least)) if is_here => self.node.capacity(&class, least).await?,
            _ => Capacity::default(),
        };
        Ok(v1::GetCapacityResponse {
            available_capacity: signed(capacity.available)?,
            maximum_volume_size: Some(signed(capacity.largest)?),
            minimum_volume_size: Some(signed(capacity.smallest)?),
        })
    }

    /// The class that the request asks for and the bytes of its smallest volume, if there can be such volumes.
    fn usable(&self, request: &v1::GetCapacityRequest, parameters: &Parameters) -> Result<(Class, u64)> {
        let uses = match request.volume_capabilities.as_slice() {
            [] => Vec::new(),
            capabilities => Capability::list("volume_capabilities", capabilities)?,
        };
        let class = chosen_class(&self.node, parameters.class.as_deref())?;
        check_uses(&class, &uses, parameters)?;
        let least = least_bytes(&class, &uses);
        Ok((class, least))
    }

    async fn expand(&self, request: &v1::ControllerExpandVolumeRequest) -> Result<v1::ControllerExpandVolumeResponse> {
        text::required("volume_id", &request.volume_id)?;
        if request.capacity_range.is_none() {
            return Err(Error::invalid("capacity_range", "is missing"));
        }
        let size = SizeRange::parse(request.capacity_range.as_ref())?;
        let access = request
            .volume_capability
            .as_ref()
            .map(|capability| Capability::required("volume_capability", Some(capability)))
            .transpose()?;
        let (bytes, has_file_system) = self.node.expand_volume(&request.volume_id, size).await?;
        let is_mounted = access.map_or(has_file_system, |capability| capability.access != Access::Block);
        Ok(v1::ControllerExpandVolumeResponse { capacity_bytes: signed(bytes)?, node_expansion_required: is_mounted })
    }
}

pub(super) fn timestamp(seconds: u64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap_or_default(), nanos: 0 }
}

pub(super) fn signed(bytes: u64) -> Result<i64> {
    i64::try_from(bytes).map_err(|_| Error::Internal { problem: format!("{bytes} bytes is more than CSI can say") })
}

pub(super) fn volume_health(volume_id: String, conditions: Vec<Condition>) -> v1::VolumeHealth {
    let entries = conditions.into_iter().map(|condition| v1::volume_health::VolumeHealthEntry {
        status: match condition.severity {
            Severity::Degraded => v1::VolumeHealthErrorType::Degraded.into(),
            Severity::Inaccessible => v1::VolumeHealthErrorType::Inaccessible.into(),
        },
        reason: condition.reason.to_owned(),
        message: condition.message,
    });
    v1::VolumeHealth { volume_id, health_statuses: entries.collect() }
}

type Answer<T> = std::result::Result<Response<T>, Status>;

#[tonic::async_trait]
impl Controller for ControllerService {
    async fn create_volume(&self, request: Request<v1::CreateVolumeRequest>) -> Answer<v1::CreateVolumeResponse> {
        subject(&request.get_ref().name);
        Ok(Response::new(self.create(request.get_ref()).await?))
    }

    async fn delete_volume(&self, request: Request<v1::DeleteVolumeRequest>) -> Answer<v1::DeleteVolumeResponse> {
        let (volume_id, deletable) = (&request.get_ref().volume_id, Deletable::of(request.metadata()));
        subject(volume_id);
        text::required("volume_id", volume_id)?;
        self.node.delete(volume_id, deletable).await?;
        Ok(Response::new(v1::DeleteVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<v1::ValidateVolumeCapabilitiesRequest>,
    ) -> Answer<v1::ValidateVolumeCapabilitiesResponse> {
        Ok(Response::new(self.validate(request.get_ref()).await?))
    }

    async fn list_volumes(&self, request: Request<v1::ListVolumesRequest>) -> Answer<v1::ListVolumesResponse> {
        Ok(Response::new(self.list(request.get_ref()).await?))
    }

    async fn get_capacity(&self, request: Request<v1::GetCapacityRequest>) -> Answer<v1::GetCapacityResponse> {
        Ok(Response::new(self.capacity(request.get_ref()).await?))
    }

    async fn controller_get_volume(
        &self,
        request: Request<v1::ControllerGetVolumeRequest>,
    ) -> Answer<v1::ControllerGetVolumeResponse> {
        let volume = self.known(&request.get_ref().volume_id).await?;
        let status = v1::controller_get_volume_response::VolumeStatus::default();
        Ok(Response::new(v1::ControllerGetVolumeResponse { volume: Some(self.volume(&volume)?), status: Some(status) }))
    }

    async fn controller_get_volume_health(
        &self,
        request: Request<v1::ControllerGetVolumeHealthRequest>,
    ) -> Answer<v1::ControllerGetVolumeHealthResponse> {
        let volume_id = &request.get_ref().volume_id;
        text::required("volume_id", volume_id)?;
        let conditions = self.node.volume_health(&self.node.known_name(volume_id)?, None).await?;
        let health = volume_health(volume_id.clone(), conditions);
        Ok(Response::new(v1::ControllerGetVolumeHealthResponse { volume_health: Some(health) }))
    }

    async fn controller_list_volume_health(
        &self,
        request: Request<v1::ControllerListVolumeHealthRequest>,
    ) -> Answer<v1::ControllerListVolumeHealthResponse> {
        let request = request.get_ref();
        let (unhealthy, next_token) = self.node.unhealthy(request.max_entries, &request.starting_token).await?;
        let entry = |(volume, conditions): (Volume, Vec<Condition>)| {
            let health = volume_health(self.node.volume_id(&volume.logical.name), conditions);
            (volume.logical, health)
        };
        let (listed, entries): (Vec<_>, Vec<_>) = unhealthy.into_iter().map(entry).unzip();
        let (entries, next_token) = answerable(&listed, entries, next_token);
        Ok(Response::new(v1::ControllerListVolumeHealthResponse { entries, next_token }))
    }

    async fn controller_get_capabilities(
        &self,
        _request: Request<v1::ControllerGetCapabilitiesRequest>,
    ) -> Answer<v1::ControllerGetCapabilitiesResponse> {
        Ok(Response::new(controller_capabilities()))
    }

    async fn create_snapshot(&self, request: Request<v1::CreateSnapshotRequest>) -> Answer<v1::CreateSnapshotResponse> {
        subject(&request.get_ref().name);
        Ok(Response::new(self.create_snapshot(request.get_ref()).await?))
    }

    async fn delete_snapshot(&self, request: Request<v1::DeleteSnapshotRequest>) -> Answer<v1::DeleteSnapshotResponse> {
        let snapshot_id = &request.get_ref().snapshot_id;
        subject(snapshot_id);
        text::required("snapshot_id", snapshot_id)?;
        self.node.delete_snapshot(snapshot_id).await?;
        Ok(Response::new(v1::DeleteSnapshotResponse {}))
    }

    async fn list_snapshots(&self, request: Request<v1::ListSnapshotsRequest>) -> Answer<v1::ListSnapshotsResponse> {
        Ok(Response::new(self.list_snapshots(request.get_ref()).await?))
    }

    async fn get_snapshot(&self, request: Request<v1::GetSnapshotRequest>) -> Answer<v1::GetSnapshotResponse> {
        let snapshot_id = &request.get_ref().snapshot_id;
        text::required("snapshot_id", snapshot_id)?;
        let snapshot = self.node.get_snapshot(snapshot_id).await?;
        Ok(Response::new(v1::GetSnapshotResponse { snapshot: Some(self.snapshot(&snapshot).await?) }))
    }

    async fn controller_expand_volume(
        &self,
        request: Request<v1::ControllerExpandVolumeRequest>,
    ) -> Answer<v1::ControllerExpandVolumeResponse> {
        subject(&request.get_ref().volume_id);
        Ok(Response::new(self.expand(request.get_ref()).await?))
    }
}
