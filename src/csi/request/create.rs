//! `CreateVolumeRequest` and the parameters of a class in it.

use std::collections::HashMap;

use crate::csi::request::capability::{Access, AccessMode, Capability};
use crate::csi::request::size::SizeRange;
use crate::csi::request::text;
use crate::csi::v1;
use crate::csi::v1::volume_content_source::Type;
use crate::error::{Error, Result};
use crate::lvm::names::check_csi_name;
use crate::lvm::tags::Claim;

/// What orchestrators add to the parameters for drivers that want it; never refused.
pub(super) const ORCHESTRATOR_PREFIX: &str = "csi.storage.k8s.io/";
const CLAIM_NAME: &str = "csi.storage.k8s.io/pvc/name";
const CLAIM_NAMESPACE: &str = "csi.storage.k8s.io/pvc/namespace";
const CLASS: &str = "class";
const MKFS_OPTIONS: &str = "mkfsOptions";
/// They are kept in a tag, escaped to up to three times their length; LVM takes tags of 1,024 bytes.
const MKFS_OPTIONS_LIMIT: usize = 256;

/// The parameters that a `StorageClass` may have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters {
    /// The class of this driver; `None` means the default.
    pub class: Option<String>,
    /// Options for mkfs instead of those of the class, as words.
    pub mkfs_options: Vec<String>,
    /// The claim that the volume is for.
    pub claim: Option<Claim>,
}

impl Parameters {
    /// Reads the parameters; an unknown one is refused, since a misspelt one would be ignored for ever.
    pub fn parse(parameters: &HashMap<String, String>) -> Result<Self> {
        text::map("parameters", parameters)?;
        let mut parsed = Self::default();
        for (key, value) in parameters {
            match key.as_str() {
                CLASS => parsed.class = Some(value.clone()),
                MKFS_OPTIONS if value.len() > MKFS_OPTIONS_LIMIT => {
                    return Err(Error::invalid(
                        format!("parameters.{MKFS_OPTIONS}"),
                        format!("has {} bytes; at most {MKFS_OPTIONS_LIMIT} are allowed", value.len()),
                    ));
                }
                MKFS_OPTIONS => parsed.mkfs_options = value.split_whitespace().map(String::from).collect(),
                key if key.starts_with(ORCHESTRATOR_PREFIX) => {}
                key => {
                    return Err(Error::invalid(
                        format!("parameters.{key}"),
                        format!("is no parameter of this driver; there are {CLASS} and {MKFS_OPTIONS}"),
                    ));
                }
            }
        }
        if let (Some(namespace), Some(name)) = (parameters.get(CLAIM_NAMESPACE), parameters.get(CLAIM_NAME)) {
            parsed.claim = Some(Claim { namespace: namespace.clone(), name: name.clone() });
        }
        Ok(parsed)
    }
}

/// A checked request for a volume.
#[derive(Debug, Clone)]
pub struct CreateVolume {
    /// Its name.
    pub name: String,
    /// The sizes it may have.
    pub size: SizeRange,
    /// How it will be used; at least one way.
    pub capabilities: Vec<Capability>,
    /// Its parameters.
    pub parameters: Parameters,
    /// The topologies it may be in, as key and value, the preferred ones first; none means anywhere.
    pub topologies: Vec<HashMap<String, String>>,
    /// What it shall be a copy of.
    pub source: Option<ContentSource>,
}

/// What a volume is copied from, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentSource {
    /// A snapshot.
    Snapshot(String),
    /// A volume.
    Volume(String),
}

impl ContentSource {
    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Snapshot(id) | Self::Volume(id) => id,
        }
    }

    fn parse(source: &v1::VolumeContentSource) -> Result<Self> {
        match &source.r#type {
            Some(Type::Snapshot(source)) => {
                let field = "volume_content_source.snapshot.snapshot_id";
                Ok(Self::Snapshot(text::required(field, &source.snapshot_id)?.to_owned()))
            }
            Some(Type::Volume(source)) => {
                let field = "volume_content_source.volume.volume_id";
                Ok(Self::Volume(text::required(field, &source.volume_id)?.to_owned()))
            }
            None => Err(Error::invalid("volume_content_source.type", "is missing; give a snapshot or a volume")),
        }
    }
}

impl CreateVolume {
    /// Checks the request as far as it can be checked for itself.
    pub fn parse(request: &v1::CreateVolumeRequest) -> Result<Self> {
        let name = text::required("name", &request.name)?.to_owned();
        text::map("secrets", &request.secrets)?;
        check_csi_name(&name).map_err(|problem| Error::invalid("name", problem))?;
        let capabilities = Capability::list("volume_capabilities", &request.volume_capabilities)?;
        if let Some(key) = request.mutable_parameters.keys().next() {
            return Err(Error::invalid(
                format!("mutable_parameters.{key}"),
                "is no parameter of this driver; volumes have none that can be changed later",
            ));
        }
        Ok(Self {
            name,
            size: SizeRange::parse(request.capacity_range.as_ref())?,
            capabilities,
            parameters: Parameters::parse(&request.parameters)?,
            topologies: topologies(request.accessibility_requirements.as_ref()),
            source: request.volume_content_source.as_ref().map(ContentSource::parse).transpose()?,
        })
    }

    /// The file system that the capabilities name.
    pub fn file_system(&self) -> Option<&str> {
        self.capabilities.iter().find_map(Capability::file_system)
    }

    /// Whether only one user at a time may have it.
    pub fn is_for_one_user(&self) -> bool {
        self.capabilities.iter().all(|capability| capability.mode == AccessMode::SingleWriter)
    }

    /// Whether it may be used as a raw block device.
    pub fn is_raw(&self) -> bool {
        self.capabilities.iter().any(|capability| capability.access == Access::Block)
    }

    /// Whether it will be mounted.
    pub fn is_mounted(&self) -> bool {
        self.capabilities.iter().any(|capability| matches!(capability.access, Access::Mount { .. }))
    }
}

pub(super) fn topologies(requirement: Option<&v1::TopologyRequirement>) -> Vec<HashMap<String, String>> {
    let Some(requirement) = requirement else { return Vec::new() };
    requirement.preferred.iter().chain(&requirement.requisite).map(|topology| topology.segments.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_unknown_parameter_is_refused_by_its_name() {
        let message = Parameters::parse(&map(&[("clas", "fast")])).unwrap_err().to_string();
        assert!(message.starts_with("parameters.clas: is no parameter"), "{message}");
    }

    #[test]
    fn what_orchestrators_add_is_never_refused() {
        let added = map(&[
            ("class", "fast"),
            ("csi.storage.k8s.io/pvc/name", "data"),
            ("csi.storage.k8s.io/pvc/namespace", "shop"),
            ("csi.storage.k8s.io/fstype", "xfs"),
        ]);
        let parsed = Parameters::parse(&added).unwrap();
        assert_eq!(parsed.class.as_deref(), Some("fast"));
        assert_eq!(parsed.claim, Some(Claim { namespace: String::from("shop"), name: String::from("data") }));
    }
}
