use clap::CommandFactory;

use super::*;

/// Fails with clap's message. Variables of the surrounding environment would show; none of ours is set in tests.
fn parse(words: &[&str]) -> Result<Mode, String> {
    Arguments::try_parse_from([&["quarry"], words].concat())
        .map(|arguments| arguments.mode)
        .map_err(|error| error.to_string())
}

fn node(words: &[&str]) -> Result<NodeFlags, String> {
    match parse(&[&["node"], words].concat())? {
        Mode::Node(flags) => Ok(flags),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Arguments::command().debug_assert();
}

#[test]
fn a_node_needs_nothing_but_its_classes() {
    let flags = node(&["--volume-group", "vg0", "--volume-group", "nvme-*"]).unwrap();
    assert_eq!(flags.socket.csi_endpoint.to_string(), "unix:///run/quarry/csi.sock");
    assert_eq!(flags.identity.driver_name.as_str(), "lvm.quarry.storage");
    assert_eq!(flags.identity.node_name().unwrap(), host_name().unwrap());
    assert_eq!((flags.metrics, flags.log_format, flags.max_volumes), (None, LogFormat::Text, 0));
    assert!(!flags.lvm_on_host);
    assert_eq!(flags.grace, Duration::from_secs(20));
    let groups = [String::from("vg0"), String::from("nvme-*")];
    assert_eq!(flags.classes.source(), Ok(ClassesSource::VolumeGroups(&groups)));
}

#[test]
fn every_flag_of_a_node_is_read() {
    let flags = node(&[
        "--csi-endpoint=/tmp/x.sock",
        "--node-name=Knoten 1",
        "--driver-name=a.b",
        "--classes=/etc/classes.yaml",
        "--metrics=[::]:9808",
        "--log-format=json",
        "--max-volumes=7",
        "--lvm-on-host",
        "--grace=0",
        "--remember-copies-every=4MiB",
    ])
    .unwrap();
    assert_eq!(flags.socket.csi_endpoint.path(), Path::new("/tmp/x.sock"));
    assert_eq!(flags.identity.topology_value().unwrap(), topology_value("Knoten 1"));
    assert_eq!(flags.identity.driver_name.as_str(), "a.b");
    assert_eq!(flags.classes.source(), Ok(ClassesSource::File(Path::new("/etc/classes.yaml"))));
    assert_eq!(flags.metrics.map(|address| address.port()), Some(9808));
    assert_eq!((flags.log_format, flags.max_volumes, flags.grace), (LogFormat::Json, 7, Duration::ZERO));
    assert!(flags.lvm_on_host);
    assert_eq!(flags.remember_copies_every, Some(Bytes(4 << 20)));
}

#[test]
fn wrong_values_are_refused_with_what_would_be_right() {
    for (words, reason) in [
        (&["--csi-endpoint=tcp://1.2.3.4:5"][..], "unix:///run/quarry/csi.sock"),
        (&["--csi-endpoint=unix://csi.sock"], "absolute path"),
        (&["--csi-endpoint="], "absolute path"),
        (&["--driver-name=Lvm"], "a domain such as"),
        (&["--node-name="], "node-name"),
        (&["--metrics=9808"], "metrics"),
        (&["--log-format=xml"], "json"),
        (&["--max-volumes=-1"], "max-volumes"),
        (&["--grace=1m"], "whole number of seconds"),
        (&["--classes=a", "--volume-group=b"], "cannot be used with"),
    ] {
        let error = node(words).unwrap_err();
        assert!(error.contains(reason), "{words:?}: {error}");
    }
    assert!(node(&[&format!("--csi-endpoint=/{}.sock", "x".repeat(102))]).unwrap_err().contains("108 bytes"));
    assert!(node(&[&format!("--node-name={}", "n".repeat(257))]).unwrap_err().contains("257 bytes"));
}

#[test]
fn a_node_without_classes_is_told_how_to_name_them() {
    let error = node(&[]).unwrap().classes.source().unwrap_err();
    assert!(error.contains("--classes FILE") && error.contains("--volume-group NAME"), "{error}");
}

#[test]
fn the_other_commands_print_text_or_json() {
    let json = OutputFlags { format: OutputFormat::Json };
    assert_eq!(parse(&["version", "--output", "json"]), Ok(Mode::Version(json)));
    let file = PathBuf::from("x.yaml");
    let expected = CheckConfigFlags { file, output: OutputFlags { format: OutputFormat::Text } };
    assert_eq!(parse(&["check-config", "x.yaml"]), Ok(Mode::CheckConfig(expected)));
    assert!(matches!(parse(&["volumes", "--output=json"]), Ok(Mode::Volumes(flags)) if flags.output == json));
    assert!(matches!(parse(&["doctor", "--output=json"]), Ok(Mode::Doctor(flags)) if flags.output == json));
    assert!(parse(&["check-config"]).is_err());
    assert!(parse(&[]).is_err());
}

#[test]
fn no_variable_of_our_own_takes_the_prefix_that_csi_reserves() {
    for command in Arguments::command().get_subcommands() {
        for argument in command.get_arguments() {
            let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            // Those that are usual for what the downward API of Kubernetes tells.
            let usual = ["CSI_ENDPOINT", "NODE_NAME", "POD_NAMESPACE"];
            let is_allowed = |name: &str| usual.contains(&name) || name.starts_with("QUARRY_");
            assert!(variable.as_deref().is_none_or(is_allowed), "{variable:?}");
        }
    }
}

#[test]
fn a_storage_class_is_chosen_for_all_volumes_or_for_those_of_a_class() {
    let words =
        ["recover-pvs", "--storage-class", "quarry", "--storage-class", "fast=quick", "--reclaim-policy=Delete"];
    let Ok(Mode::RecoverPvs(flags)) = parse(&words) else { panic!("refused") };
    let expected = [(None, String::from("quarry")), (Some(String::from("fast")), String::from("quick"))];
    assert_eq!(flags.storage_classes, expected);
    assert_eq!((flags.reclaim_policy.word(), flags.format), ("Delete", ManifestFormat::Yaml));
    for bad in ["", "=a", "a="] {
        assert!(parse(&["recover-pvs", "--storage-class", bad]).is_err(), "{bad}");
    }
}
