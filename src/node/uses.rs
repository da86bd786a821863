//! Whether the volumes of a class can be used as a request says.

use crate::config::classes::Class;
use crate::csi::request::capability::{Access, Capability};
use crate::csi::request::create::{CreateVolume, Parameters};
use crate::error::{Error, Result};
use crate::host::file_system::FileSystem;
use crate::host::{mkfs_options, mount_options};

/// That a volume of the class can be used in all these ways.
pub(super) fn check_uses(class: &Class, capabilities: &[Capability], parameters: &Parameters) -> Result<()> {
    for capability in capabilities {
        let Access::Mount { file_system, flags } = &capability.access else { continue };
        let file_system: FileSystem = file_system
            .as_deref()
            .unwrap_or(&class.file_system)
            .parse()
            .map_err(|problem: String| Error::invalid("volume_capability.mount.fs_type", problem))?;
        let refused = |problem| Error::invalid("volume_capability.mount.mount_flags", problem);
        mount_options::check(file_system, &mount_options::parse(flags).map_err(refused)?).map_err(refused)?;
        mkfs_options::check(file_system, &parameters.mkfs_options)
            .map_err(|problem| Error::invalid("parameters.mkfsOptions", problem))?;
    }
    Ok(())
}

/// A volume too small for its file system would be made and then never mounted.
pub(super) fn check_least_size(class: &Class, create: &CreateVolume) -> Result<()> {
    if !create.is_mounted() {
        return Ok(());
    }
    let mut file_systems = create.file_systems();
    if file_systems.is_empty() {
        file_systems.push(class.file_system.clone());
    }
    let most = create.size.limit.or(create.size.required).unwrap_or(class.default_size);
    let wanted = create.size.required.unwrap_or(most);
    for file_system in file_systems.iter().filter_map(|word| word.parse::<FileSystem>().ok()) {
        if wanted < file_system.minimum_bytes() {
            return Err(Error::OutOfRange {
                field: String::from("capacity_range.required_bytes"),
                problem: format!("{wanted} is too small for {file_system}; it needs {}", file_system.minimum_bytes()),
            });
        }
    }
    Ok(())
}
