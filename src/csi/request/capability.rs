//! Volume capabilities: how a volume is to be used.

use crate::csi::request::text::MAP_LIMIT;
use crate::csi::v1::VolumeCapability;
use crate::csi::v1::volume_capability::AccessType;
use crate::csi::v1::volume_capability::access_mode::Mode;
use crate::error::{Error, Result};

/// How a volume is shown to its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As a block device.
    Block,
    /// As a mounted file system.
    Mount {
        /// The file system's type; `None` leaves it to the class.
        file_system: Option<String>,
        /// Mount options as the caller wrote them.
        flags: Vec<String>,
    },
}

/// How many may use a volume at once, and how. Only what one node can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// Any number of users on this node, as Kubernetes has always meant it.
    Writer,
    /// Users that only read.
    ReaderOnly,
    /// One user at a time.
    SingleWriter,
    /// Any number of users on this node.
    MultiWriter,
}

/// One capability, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// How the volume is shown.
    pub access: Access,
    /// Who may use it.
    pub mode: AccessMode,
}

impl Capability {
    /// Checks one capability that must be there.
    pub fn required(field: &str, capability: Option<&VolumeCapability>) -> Result<Self> {
        Self::parse(field, capability.ok_or_else(|| Error::invalid(field, "is missing"))?)
    }

    /// Checks a list that must have at least one.
    pub fn list(field: &str, capabilities: &[VolumeCapability]) -> Result<Vec<Self>> {
        if capabilities.is_empty() {
            return Err(Error::invalid(field, "is missing"));
        }
        let parsed = capabilities.iter().enumerate().map(|(index, one)| Self::parse(&format!("{field}[{index}]"), one));
        let parsed: Vec<Self> = parsed.collect::<Result<_>>()?;
        let blocks = parsed.iter().filter(|capability| capability.access == Access::Block).count();
        // What is written to a raw device would destroy the file system that the other use expects.
        if blocks > 0 && blocks < parsed.len() {
            return Err(Error::invalid(field, "ask for block and for mount; a volume is used in one of the two ways"));
        }
        let mut named = parsed.iter().filter_map(Self::file_system);
        if let Some(first) = named.next()
            && let Some(other) = named.find(|other| *other != first)
        {
            return Err(Error::invalid(
                field,
                format!("ask for {first} and for {other}; a volume holds one file system"),
            ));
        }
        Ok(parsed)
    }

    /// The file system that it names.
    pub fn file_system(&self) -> Option<&str> {
        match &self.access {
            Access::Mount { file_system, .. } => file_system.as_deref(),
            Access::Block => None,
        }
    }

    fn parse(field: &str, capability: &VolumeCapability) -> Result<Self> {
        let access = match &capability.access_type {
            None => return Err(Error::invalid(field, "names neither block nor mount; it must name one of them")),
            Some(AccessType::Block(_)) => Access::Block,
            Some(AccessType::Mount(mount)) => {
                if mount.mount_flags.iter().map(String::len).sum::<usize>() > MAP_LIMIT {
                    return Err(Error::invalid(
                        format!("{field}.mount.mount_flags"),
                        format!("has more than {MAP_LIMIT} bytes"),
                    ));
                }
                if !mount.volume_mount_group.is_empty() {
                    return Err(Error::invalid(
                        format!("{field}.mount.volume_mount_group"),
                        "is not supported; the file systems here have no such option, so the group is left to the caller",
                    ));
                }
                Access::Mount {
                    file_system: (!mount.fs_type.is_empty()).then(|| mount.fs_type.clone()),
                    flags: mount.mount_flags.clone(),
                }
            }
        };
        let mode = capability
            .access_mode
            .as_ref()
            .ok_or_else(|| Error::invalid(format!("{field}.access_mode"), "is missing"))?;
        Ok(Self { access, mode: parse_mode(field, mode.mode)? })
    }
}

fn parse_mode(field: &str, mode: i32) -> Result<AccessMode> {
    let field = format!("{field}.access_mode.mode");
    match Mode::try_from(mode) {
        Ok(Mode::SingleNodeWriter) => Ok(AccessMode::Writer),
        Ok(Mode::SingleNodeReaderOnly) => Ok(AccessMode::ReaderOnly),
        Ok(Mode::SingleNodeSingleWriter) => Ok(AccessMode::SingleWriter),
        Ok(Mode::SingleNodeMultiWriter) => Ok(AccessMode::MultiWriter),
        Ok(Mode::Unknown) => Err(Error::invalid(field, "is missing")),
        Ok(many) => Err(Error::invalid(
            field,
            format!(
                "{} is not possible: a local volume is reachable from its own node only; use SINGLE_NODE_WRITER, \
                 SINGLE_NODE_READER_ONLY, SINGLE_NODE_SINGLE_WRITER or SINGLE_NODE_MULTI_WRITER",
                many.as_str_name()
            ),
        )),
        Err(_) => Err(Error::invalid(field, format!("{mode} is no access mode"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::v1::volume_capability::{AccessMode as Wire, BlockVolume, MountVolume};

    fn capability(access_type: Option<AccessType>, mode: Option<Mode>) -> VolumeCapability {
        VolumeCapability { access_type, access_mode: mode.map(|mode| Wire { mode: mode.into() }) }
    }

    #[test]
    fn a_capability_must_say_how_and_for_whom() {
        let block = || Some(AccessType::Block(BlockVolume {}));
        assert!(Capability::required("volume_capability", None).is_err());
        for bad in [
            capability(None, Some(Mode::SingleNodeWriter)),
            capability(block(), None),
            capability(block(), Some(Mode::Unknown)),
            capability(block(), Some(Mode::MultiNodeMultiWriter)),
        ] {
            assert!(Capability::required("volume_capability", Some(&bad)).is_err(), "{bad:?}");
        }
        assert!(Capability::list("volume_capabilities", &[]).is_err());
        let good = capability(block(), Some(Mode::SingleNodeMultiWriter));
        let mount = capability(Some(AccessType::Mount(MountVolume::default())), Some(Mode::SingleNodeMultiWriter));
        assert!(Capability::list("volume_capabilities", &[good.clone(), mount]).is_err());
        let of_type = |fs_type: &str| {
            let mount = MountVolume { fs_type: fs_type.to_owned(), ..MountVolume::default() };
            capability(Some(AccessType::Mount(mount)), Some(Mode::SingleNodeWriter))
        };
        assert!(Capability::list("volume_capabilities", &[of_type("xfs"), of_type(""), of_type("ext4")]).is_err());
        assert!(Capability::list("volume_capabilities", &[of_type("xfs"), of_type(""), of_type("xfs")]).is_ok());
        let expected = Capability { access: Access::Block, mode: AccessMode::MultiWriter };
        assert_eq!(Capability::list("volume_capabilities", &[good]).unwrap(), [expected]);
    }

    #[test]
    fn a_mode_for_many_nodes_is_refused_with_the_modes_that_work() {
        let many = capability(Some(AccessType::Mount(MountVolume::default())), Some(Mode::MultiNodeReaderOnly));
        let message = Capability::required("volume_capability", Some(&many)).unwrap_err().to_string();
        assert!(message.contains("MULTI_NODE_READER_ONLY") && message.contains("SINGLE_NODE_WRITER"), "{message}");
    }
}
