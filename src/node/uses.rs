//! Whether the volumes of a class can be used as a request says.

use crate::config::classes::Class;
use crate::csi::request::capability::{Access, Capability};
use crate::csi::request::create::{CreateVolume, Parameters};
use crate::error::{Error, Result};
use crate::host::file_system::FileSystem;
use crate::host::{mkfs_options, mount_options};
use crate::node::volume::Volume;

/// That a volume of the class can be used in all these ways, which are the request's `volume_capabilities`.
pub(super) fn check_uses(class: &Class, capabilities: &[Capability], parameters: &Parameters) -> Result<()> {
    for (index, capability) in capabilities.iter().enumerate() {
        let field = |name: &str| format!("volume_capabilities[{index}].mount.{name}");
        let file_system = file_system(class, capability, &field("fs_type"))?;
        if let Access::Mount { flags, .. } = &capability.access {
            let refused = |problem| Error::invalid(field("mount_flags"), problem);
            mount_options::check(file_system, &mount_options::parse(flags).map_err(refused)?).map_err(refused)?;
        }
        mkfs_options::check(file_system, &parameters.mkfs_options)
            .map_err(|problem| Error::invalid("parameters.mkfsOptions", problem))?;
    }
    Ok(())
}

/// The file system of a use; of a block volume the one that its class would make.
fn file_system(class: &Class, capability: &Capability, field: &str) -> Result<FileSystem> {
    let word = capability.file_system().unwrap_or(&class.file_system);
    word.parse().map_err(|problem: String| Error::invalid(field, problem))
}

/// Bytes of the smallest volume that can be used in all these ways; 0 where one extent will do.
pub(super) fn least_bytes(class: &Class, capabilities: &[Capability]) -> u64 {
    let mounted = capabilities.iter().filter(|capability| capability.access != Access::Block);
    let file_systems = mounted.filter_map(|capability| file_system(class, capability, "fs_type").ok());
    file_systems.map(FileSystem::minimum_bytes).max().unwrap_or(0)
}

/// A volume too small for its file system would be made and then never mounted.
pub(super) fn check_least_size(class: &Class, create: &CreateVolume) -> Result<()> {
    let least = least_bytes(class, &create.capabilities);
    let (field, wanted) = match (create.size.required, create.size.limit) {
        (Some(required), _) => ("capacity_range.required_bytes", required),
        (None, Some(limit)) if limit < class.default_size => ("capacity_range.limit_bytes", limit),
        (None, _) => ("capacity_range", class.default_size),
    };
    if wanted >= least {
        return Ok(());
    }
    let file_system = create.file_system().unwrap_or(&class.file_system);
    let problem = if field == "capacity_range" {
        format!("is missing, and the defaultSize of class {}, {wanted}, is too small", class.name)
    } else {
        format!("{wanted} is too small")
    };
    Err(Error::OutOfRange {
        field: field.to_owned(),
        problem: format!("{problem} for {file_system}; it needs {least} bytes"),
    })
}

/// That the volume, as it is now, can be used in all these ways.
pub(super) fn check_volume(volume: &Volume, capabilities: &[Capability], parameters: &Parameters) -> Result<()> {
    let tags = &volume.tags;
    if let Some(class) = parameters.class.as_ref().filter(|class| **class != tags.class) {
        return Err(Error::invalid(
            "parameters.class",
            format!("is {class:?}; the volume is of class {:?}", tags.class),
        ));
    }
    for (index, capability) in capabilities.iter().enumerate() {
        let field = format!("volume_capabilities[{index}]");
        let named = capability.file_system();
        match (&capability.access, &tags.file_system) {
            (Access::Block, Some(held)) => {
                return Err(Error::invalid(field, format!("is block; the volume holds {held}")));
            }
            (Access::Mount { .. }, Some(held)) if named.is_some_and(|named| named != held) => {
                return Err(Error::invalid(format!("{field}.mount.fs_type"), format!("the volume holds {held}")));
            }
            (Access::Mount { .. }, None) if tags.block => {
                return Err(Error::invalid(field, "is mount; the volume is used as a block device"));
            }
            _ => {}
        }
    }
    Ok(())
}
