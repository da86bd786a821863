//! `proto/csi.proto` says the same as the spec's own file, which the Go module of the spec carries.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use protox::prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

const SPEC_MODULE: &str = "github.com/container-storage-interface/spec";

#[test]
fn our_protocol_file_compiles_to_the_descriptors_of_the_spec() {
    let ours = compile(&Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"));
    let theirs = compile(&spec_directory());

    let differences = differences(&facts(&ours), &facts(&theirs));
    assert!(
        differences.is_empty(),
        "proto/csi.proto differs from the spec in {} places:\n{}",
        differences.len(),
        differences.join("\n")
    );
    // The facts name list members by their names; the bytes also hold the order in which they stand.
    let encode = |file: &DynamicMessage| protox::prost::Message::encode_to_vec(file);
    assert!(encode(&ours) == encode(&theirs), "proto/csi.proto has the spec's facts, but in another order");
}

#[test]
fn the_comparison_sees_numbers_options_and_reserved_ranges() {
    let ours = compile(&Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"));
    let facts = facts(&ours);
    let expect = |path: &str, value: &str| {
        assert_eq!(facts.get(path).map(String::as_str), Some(value), "{path}");
    };
    expect("message_type[CreateVolumeRequest].field[name].number", "I32(1)");
    expect("message_type[CreateVolumeRequest].field[secrets].options.csi.v1.csi_secret", "Bool(true)");
    expect("service[SnapshotMetadata].options.csi.v1.alpha_service", "Bool(true)");
    expect("message_type[NodeGetVolumeStatsResponse].reserved_range[0].start", "I32(2)");
    expect("extension[csi_secret].number", "I32(1059)");
    assert!(facts.len() > 2000, "only {} facts: the comparison has become blind", facts.len());
}

/// The descriptor of `csi.proto` in `directory`, read with the options that the file itself defines.
fn compile(directory: &Path) -> DynamicMessage {
    let mut compiler = protox::Compiler::new([directory]).unwrap();
    compiler
        .include_source_info(false)
        .open_file("csi.proto")
        .unwrap_or_else(|error| panic!("{}: {error:?}", directory.display()));
    let pool: DescriptorPool = compiler.descriptor_pool();
    let bytes = pool.get_file_by_name("csi.proto").unwrap().encode_to_vec();
    let kind = pool.get_message_by_name("google.protobuf.FileDescriptorProto").unwrap();
    let mut file = DynamicMessage::decode(kind, bytes.as_slice()).unwrap();
    file.clear_field_by_name("name");
    file.clear_field_by_name("source_code_info");
    file
}

/// Where the Go module of the spec lies, in the version that `tests/tools/go.mod` pins.
fn spec_directory() -> PathBuf {
    go(&["mod", "download", SPEC_MODULE]);
    let directory = go(&["list", "-m", "-f", "{{.Dir}}", SPEC_MODULE]);
    PathBuf::from(directory.trim())
}

fn go(arguments: &[&str]) -> String {
    let output = Command::new("go")
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools"))
        .output()
        .expect("this test needs Go in PATH");
    assert!(output.status.success(), "go {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every scalar of a descriptor by its path, such as `message_type[Volume].field[volume_id].number`.
fn facts(file: &DynamicMessage) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    collect_message("", file, &mut facts);
    facts
}

fn collect_message(path: &str, message: &DynamicMessage, facts: &mut BTreeMap<String, String>) {
    let join = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    // A message without content is a fact too.
    facts.insert(join("kind"), message.descriptor().name().to_owned());
    for (field, value) in message.fields() {
        collect_value(&join(field.name()), value, facts);
    }
    for (extension, value) in message.extensions() {
        collect_value(&join(extension.full_name()), value, facts);
    }
    for (index, unknown) in message.unknown_fields().enumerate() {
        facts.insert(join(&format!("unknown{index}")), format!("{unknown:?}"));
    }
}

fn collect_value(path: &str, value: &Value, facts: &mut BTreeMap<String, String>) {
    match value {
        Value::Message(message) => collect_message(path, message, facts),
        Value::List(members) => {
            for (index, member) in members.iter().enumerate() {
                let key = name_of(member).unwrap_or_else(|| index.to_string());
                collect_value(&format!("{path}[{key}]"), member, facts);
            }
        }
        scalar => {
            facts.insert(path.to_owned(), format!("{scalar:?}"));
        }
    }
}

fn name_of(member: &Value) -> Option<String> {
    let name = member.as_message()?.get_field_by_name("name")?;
    name.as_str().map(str::to_owned)
}

fn differences(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> Vec<String> {
    let mut paths: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    paths.sort();
    paths.dedup();
    let show = |value: Option<&String>| value.map_or("nothing".to_owned(), Clone::clone);
    paths
        .into_iter()
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| format!("{path}: ours {}, the spec's {}", show(ours.get(path)), show(theirs.get(path))))
        .collect()
}
