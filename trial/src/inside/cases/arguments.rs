//! Requests that lack something or contradict themselves.

use std::collections::HashMap;

use anyhow::Result;
use quarry::csi::v1;
use quarry::csi::v1::volume_capability::access_mode::Mode;
use quarry::csi::v1::volume_capability::{AccessType, BlockVolume, MountVolume};
use tonic::Code::{FailedPrecondition, InvalidArgument, NotFound, Unimplemented};

use crate::client::{block, capability, class, create, mounted};
use crate::inside::check::{Ground, MIB, answered, refused};

cases! {
    "a create that lacks a field is refused by the field's name" => create_lacks_a_field,
    "a call of the controller that lacks a field is refused by the field's name" => controller_lacks_a_field,
    "a stage that lacks a field is refused by the field's name" => stage_lacks_a_field,
    "a publish that lacks a field is refused by the field's name" => publish_lacks_a_field,
    "stats, growth and health that lack a field are refused by the field's name" => looks_lack_a_field,
    "an access type that is neither block nor mount is refused by every call" => neither_access_type,
    "block and mount for the same volume are refused" => both_access_types,
    "an access mode for many nodes, or none of the protocol, is refused with those that work" => wrong_access_modes,
    "a volume group for mounting is refused" => mount_group,
    "a source of content that is missing is told as such" => content_source,
    "a parameter that could be changed later is refused" => mutable_parameters,
    "maps and options larger than the protocol allows are refused" => too_large,
    "what is not offered says so" => not_offered,
}

async fn create_lacks_a_field(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let good = || create("lacks", 4 * MIB, block());
    let without_mode = v1::VolumeCapability { access_mode: None, ..block() };
    let unknown_mode = capability(AccessType::Block(BlockVolume {}), Mode::Unknown);
    for (request, field) in [
        (v1::CreateVolumeRequest { name: String::new(), ..good() }, "name"),
        (v1::CreateVolumeRequest { volume_capabilities: Vec::new(), ..good() }, "volume_capabilities"),
        (v1::CreateVolumeRequest { volume_capabilities: vec![without_mode], ..good() }, "access_mode"),
        (v1::CreateVolumeRequest { volume_capabilities: vec![unknown_mode], ..good() }, "access_mode"),
    ] {
        refused(controller.create_volume(request).await, InvalidArgument, &[field, "missing"])?;
    }
    Ok(())
}

async fn controller_lacks_a_field(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let volume = ground.volume("lacks", 4, block()).await?;
    let missing = |field| [field, "missing"];
    refused(
        controller.delete_volume(v1::DeleteVolumeRequest::default()).await,
        InvalidArgument,
        &missing("volume_id"),
    )?;
    let get = v1::ControllerGetVolumeRequest::default();
    refused(controller.controller_get_volume(get).await, InvalidArgument, &missing("volume_id"))?;
    let health = v1::ControllerGetVolumeHealthRequest::default();
    refused(controller.controller_get_volume_health(health).await, InvalidArgument, &missing("volume_id"))?;
    let validate = v1::ValidateVolumeCapabilitiesRequest {
        volume_capabilities: vec![block()],
        ..v1::ValidateVolumeCapabilitiesRequest::default()
    };
    refused(controller.validate_volume_capabilities(validate).await, InvalidArgument, &missing("volume_id"))?;
    let validate = v1::ValidateVolumeCapabilitiesRequest {
        volume_id: volume.id.clone(),
        ..v1::ValidateVolumeCapabilitiesRequest::default()
    };
    let answer = controller.validate_volume_capabilities(validate).await;
    refused(answer, InvalidArgument, &missing("volume_capabilities"))?;
    let expand = v1::ControllerExpandVolumeRequest {
        capacity_range: Some(v1::CapacityRange { required_bytes: 8 * MIB, limit_bytes: 0 }),
        ..v1::ControllerExpandVolumeRequest::default()
    };
    refused(controller.controller_expand_volume(expand).await, InvalidArgument, &missing("volume_id"))?;
    let expand = v1::ControllerExpandVolumeRequest {
        volume_id: volume.id.clone(),
        ..v1::ControllerExpandVolumeRequest::default()
    };
    refused(controller.controller_expand_volume(expand).await, InvalidArgument, &missing("capacity_range"))?;
    volume.remove().await
}

async fn stage_lacks_a_field(ground: &Ground) -> Result<()> {
    let mut node = ground.client().node;
    let volume = ground.volume("lacks", 4, mounted("ext4")).await?;
    let good = || volume.stage_request();
    for (request, field) in [
        (v1::NodeStageVolumeRequest { volume_id: String::new(), ..good()? }, "volume_id"),
        (v1::NodeStageVolumeRequest { staging_target_path: String::new(), ..good()? }, "staging_target_path"),
        (v1::NodeStageVolumeRequest { volume_capability: None, ..good()? }, "volume_capability"),
    ] {
        refused(node.node_stage_volume(request).await, InvalidArgument, &[field, "missing"])?;
    }
    let unstage = |volume_id: &str, path: &str| v1::NodeUnstageVolumeRequest {
        volume_id: volume_id.to_owned(),
        staging_target_path: path.to_owned(),
    };
    refused(node.node_unstage_volume(unstage("", "/x")).await, InvalidArgument, &["volume_id", "missing"])?;
    let answer = node.node_unstage_volume(unstage(&volume.id, "")).await;
    refused(answer, InvalidArgument, &["staging_target_path", "missing"])?;
    volume.remove().await
}

async fn publish_lacks_a_field(ground: &Ground) -> Result<()> {
    let mut node = ground.client().node;
    let volume = ground.volume("lacks", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let target = volume.target("user")?;
    let good = || volume.publish_request(&target);
    for (request, code, field) in [
        (v1::NodePublishVolumeRequest { volume_id: String::new(), ..good()? }, InvalidArgument, "volume_id"),
        (v1::NodePublishVolumeRequest { target_path: String::new(), ..good()? }, InvalidArgument, "target_path"),
        (v1::NodePublishVolumeRequest { volume_capability: None, ..good()? }, InvalidArgument, "volume_capability"),
        // The specification has a code of its own for this one.
        (
            v1::NodePublishVolumeRequest { staging_target_path: String::new(), ..good()? },
            FailedPrecondition,
            "staging_target_path",
        ),
    ] {
        refused(node.node_publish_volume(request).await, code, &[field, "missing"])?;
    }
    let unpublish = |volume_id: &str, path: &str| v1::NodeUnpublishVolumeRequest {
        volume_id: volume_id.to_owned(),
        target_path: path.to_owned(),
    };
    refused(node.node_unpublish_volume(unpublish("", "/x")).await, InvalidArgument, &["volume_id", "missing"])?;
    let answer = node.node_unpublish_volume(unpublish(&volume.id, "")).await;
    refused(answer, InvalidArgument, &["target_path", "missing"])?;
    volume.remove().await
}

async fn looks_lack_a_field(ground: &Ground) -> Result<()> {
    let mut node = ground.client().node;
    let volume = ground.volume("lacks", 4, mounted("ext4")).await?;
    let stats = |volume_id: &str, path: &str| v1::NodeGetVolumeStatsRequest {
        volume_id: volume_id.to_owned(),
        volume_path: path.to_owned(),
        ..v1::NodeGetVolumeStatsRequest::default()
    };
    refused(node.node_get_volume_stats(stats("", "/x")).await, InvalidArgument, &["volume_id", "missing"])?;
    refused(node.node_get_volume_stats(stats(&volume.id, "")).await, InvalidArgument, &["volume_path", "missing"])?;
    let expand = |volume_id: &str, path: &str| v1::NodeExpandVolumeRequest {
        volume_id: volume_id.to_owned(),
        volume_path: path.to_owned(),
        ..v1::NodeExpandVolumeRequest::default()
    };
    refused(node.node_expand_volume(expand("", "/x")).await, InvalidArgument, &["volume_id", "missing"])?;
    refused(node.node_expand_volume(expand(&volume.id, "")).await, InvalidArgument, &["volume_path", "missing"])?;
    let health = v1::NodeGetVolumeHealthRequest::default();
    refused(node.node_get_volume_health(health).await, InvalidArgument, &["volume_id", "missing"])?;
    volume.remove().await
}

async fn neither_access_type(ground: &Ground) -> Result<()> {
    let mut client = ground.client();
    let neither = || v1::VolumeCapability { access_type: None, ..block() };
    let words = &["neither block nor mount"];
    let request = create("neither", 4 * MIB, neither());
    refused(client.controller.create_volume(request).await, InvalidArgument, words)?;
    let volume = ground.volume("neither", 4, block()).await?;
    let stage = v1::NodeStageVolumeRequest { volume_capability: Some(neither()), ..volume.stage_request()? };
    refused(client.node.node_stage_volume(stage).await, InvalidArgument, words)?;
    let target = volume.target("user")?;
    let publish =
        v1::NodePublishVolumeRequest { volume_capability: Some(neither()), ..volume.publish_request(&target)? };
    refused(client.node.node_publish_volume(publish).await, InvalidArgument, words)?;
    let expand = v1::ControllerExpandVolumeRequest {
        volume_id: volume.id.clone(),
        capacity_range: Some(v1::CapacityRange { required_bytes: 8 * MIB, limit_bytes: 0 }),
        volume_capability: Some(neither()),
        ..v1::ControllerExpandVolumeRequest::default()
    };
    refused(client.controller.controller_expand_volume(expand).await, InvalidArgument, words)?;
    volume.remove().await
}

async fn both_access_types(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let both = || vec![block(), mounted("ext4")];
    let request = v1::CreateVolumeRequest { volume_capabilities: both(), ..create("both", 4 * MIB, block()) };
    refused(controller.create_volume(request).await, InvalidArgument, &["volume_capabilities", "block", "mount"])?;
    let volume = ground.volume("both", 4, block()).await?;
    let validate = v1::ValidateVolumeCapabilitiesRequest {
        volume_id: volume.id.clone(),
        volume_capabilities: both(),
        ..v1::ValidateVolumeCapabilitiesRequest::default()
    };
    let answer = answered(controller.validate_volume_capabilities(validate).await)?;
    anyhow::ensure!(answer.confirmed.is_none() && answer.message.contains("block"), "{answer:?}");
    volume.remove().await
}

async fn wrong_access_modes(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    for mode in [Mode::MultiNodeReaderOnly, Mode::MultiNodeSingleWriter, Mode::MultiNodeMultiWriter] {
        let request = create("many", 4 * MIB, capability(AccessType::Block(BlockVolume {}), mode));
        let words = &[mode.as_str_name(), "SINGLE_NODE_WRITER"];
        refused(controller.create_volume(request).await, InvalidArgument, words)?;
    }
    let mut unheard = block();
    unheard.access_mode = Some(v1::volume_capability::AccessMode { mode: 4711 });
    let answer = controller.create_volume(create("many", 4 * MIB, unheard)).await;
    refused(answer, InvalidArgument, &["4711"])
}

async fn mount_group(ground: &Ground) -> Result<()> {
    let mount = MountVolume { volume_mount_group: String::from("1000"), ..MountVolume::default() };
    let request = create("mount-group", 4 * MIB, capability(AccessType::Mount(mount), Mode::SingleNodeWriter));
    refused(ground.client().controller.create_volume(request).await, InvalidArgument, &["volume_mount_group"])
}

async fn content_source(ground: &Ground) -> Result<()> {
    use v1::volume_content_source::{Type, VolumeSource};
    let source = Type::Volume(VolumeSource { volume_id: String::from("lab-node/other") });
    let request = v1::CreateVolumeRequest {
        volume_content_source: Some(v1::VolumeContentSource { r#type: Some(source) }),
        ..create("copy", 4 * MIB, block())
    };
    refused(ground.client().controller.create_volume(request).await, NotFound, &["lab-node/other"])
}

async fn mutable_parameters(ground: &Ground) -> Result<()> {
    let request = v1::CreateVolumeRequest {
        mutable_parameters: HashMap::from([(String::from("iops"), String::from("9"))]),
        ..create("mutable", 4 * MIB, block())
    };
    refused(ground.client().controller.create_volume(request).await, InvalidArgument, &["mutable_parameters.iops"])
}

async fn too_large(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let mut request = create("large", 4 * MIB, block());
    request.parameters = class(&"c".repeat(5000));
    refused(controller.create_volume(request).await, InvalidArgument, &["parameters", "4096"])?;
    let mount = MountVolume { mount_flags: vec!["noatime".repeat(700)], ..MountVolume::default() };
    let request = create("large", 4 * MIB, capability(AccessType::Mount(mount), Mode::SingleNodeWriter));
    refused(controller.create_volume(request).await, InvalidArgument, &["mount_flags", "4096"])
}

async fn not_offered(ground: &Ground) -> Result<()> {
    let mut controller = ground.client().controller;
    let publish = v1::ControllerPublishVolumeRequest::default();
    refused(controller.controller_publish_volume(publish).await, Unimplemented, &["ControllerPublishVolume"])?;
    let modify = v1::ControllerModifyVolumeRequest::default();
    refused(controller.controller_modify_volume(modify).await, Unimplemented, &["ControllerModifyVolume"])
}
