use proptest::prelude::*;

use super::*;
use crate::lvm::layout::Layout;
use crate::lvm::portion::Portion;
use crate::lvm::wipe::Wipe;

fn parse(text: &str) -> Result<Classes, ClassesError> {
    Classes::parse(text, |_, _, _| Ok(()))
}

/// A file with one class that has these further lines.
fn with(lines: &str) -> String {
    format!("classes:\n- name: fast\n  volumeGroups: [nvme-*]\n{lines}")
}

#[test]
fn a_full_file_is_read_key_by_key() {
    let text = "
# what this node offers
classes:
- name: fast
  default: true
  volumeGroups: [nvme-*, spare]
  layout: linear
  reserve: 5%
  wipe: discard
  trimEvery: 7days
  fileSystem: xfs
  mkfsOptions: [\"-m\", \"0\"]
  mountOptions: [noatime]
  defaultSize: 10GiB
  copyRate: 200MiB
- name: slow.1
  volumeGroups:
  - hdd
";
    let classes = parse(text).unwrap();
    let expected = Class {
        name: String::from("fast"),
        default: true,
        volume_groups: vec!["nvme-*".parse().unwrap(), "spare".parse().unwrap()],
        layout: Layout::Linear,
        reserve: Portion::Share(500),
        snapshot_reserve: Portion::Share(2_000),
        copy_rate: Some(200 << 20),
        wipe: Wipe::Discard,
        trim: "7days".parse().unwrap(),
        file_system: String::from("xfs"),
        mkfs_options: vec![String::from("-m"), String::from("0")],
        mount_options: vec![String::from("noatime")],
        default_size: 10 << 30,
    };
    assert_eq!(classes.class("fast"), Some(&expected));
    assert_eq!(classes.class("slow.1"), Some(&Class::new(String::from("slow.1"), vec!["hdd".parse().unwrap()])));
    assert_eq!(classes.names(), "fast, slow.1");
    assert_eq!(classes.default_class(), Some(&expected));
}

#[test]
fn what_is_left_out_takes_the_safe_default() {
    let classes = parse(&with("")).unwrap();
    let class = classes.default_class().unwrap();
    assert_eq!((class.wipe, class.reserve, &class.layout), (Wipe::Zero, Portion::NONE, &Layout::Linear));
    assert_eq!(class.trim, TrimSchedule::NEVER);
    let thin = parse(&with("  layout: thin\n")).unwrap();
    assert_eq!(thin.default_class().map(|class| class.trim), Some(TrimSchedule::DAILY));
    assert_eq!((class.file_system.as_str(), class.default_size, class.default), ("ext4", 1 << 30, false));
}

#[test]
fn numbers_may_stand_without_quotes() {
    let classes = parse(&with("  reserve: 1073741824\n  defaultSize: 2147483648\n  mkfsOptions: [-m, 0]\n")).unwrap();
    let class = classes.default_class().unwrap();
    assert_eq!((class.reserve, class.default_size), (Portion::Bytes(1 << 30), 2 << 30));
    assert_eq!(class.mkfs_options, ["-m", "0"]);
}

#[test]
fn json_is_yaml_too() {
    assert!(parse(r#"{"classes": [{"name": "fast", "volumeGroups": ["*"], "default": true}]}"#).is_ok());
}

#[test]
fn every_wrong_file_is_refused_with_its_place_and_reason() {
    let two = |first: &str, second: &str| format!("{}- name: {second}\n  volumeGroups: [x]\n", with(first));
    for (text, line, column, reason) in [
        (String::new(), 1, 1, "the file is empty"),
        (String::from("# only a remark\n"), 2, 1, "the file is empty"),
        (String::from("---\n"), 1, 4, "keys with values"),
        (String::from("classes:\n"), 1, 8, "a list is expected"),
        (String::from("classes: []\n"), 1, 10, "at least one is needed"),
        (String::from("- name: a\n"), 1, 1, "keys with values"),
        (String::from("class: []\n"), 1, 1, "there is no key \"class\" here; the keys are classes"),
        (
            with("  volumegroup: x\n"),
            4,
            3,
            "the keys are name, default, volumeGroups, layout, thinPool, reserve, snapshotReserve, copyRate, wipe, ",
        ),
        (with("  copyRate: 1000KiB\n"), 4, 13, "copyRate: must be at least 1MiB"),
        (with("  copyRate: fast\n"), 4, 13, "copyRate: "),
        (String::from("classes:\n- name: a\n"), 2, 3, "the key \"volumeGroups\" is missing"),
        (String::from("classes:\n- volumeGroups: [a]\n"), 2, 3, "the key \"name\" is missing"),
        (String::from("classes:\n- name:\n  volumeGroups: [a]\n"), 2, 7, "the value is missing"),
        (String::from("classes:\n- name: a\n  volumeGroups: a\n"), 3, 17, "a list is expected"),
        (String::from("classes:\n- name: a\n  volumeGroups: []\n"), 3, 17, "volumeGroups: at least one"),
        (String::from("classes:\n- name: a\n  volumeGroups: [*]\n"), 3, 18, "put it in quotes"),
        (String::from("classes:\n- name: a\n  volumeGroups: [a, *b]\n"), 3, 21, "put it in quotes"),
        (String::from("classes:\n- name: a\n  volumeGroups: [b, /dev/c]\n"), 3, 21, "without /dev/"),
        (String::from("classes:\n- name: a\n  volumeGroups: ['b[']\n"), 3, 18, "a [ without its ]"),
        (String::from("classes:\n- name: Fast\n  volumeGroups: [a]\n"), 2, 9, "lower-case letters"),
        (String::from("classes:\n- name: -a\n  volumeGroups: [a]\n"), 2, 9, "lower-case letters"),
        (format!("classes:\n- name: {}\n  volumeGroups: [a]\n", "a".repeat(64)), 2, 9, "at most 63"),
        (with("  wipe: zero\n  wipe: none\n"), 5, 3, "the key \"wipe\" stands here twice"),
        (two("", "fast"), 4, 9, "the name \"fast\" stands in line 2 already"),
        (two("  default: true\n", "b\n  default: true"), 6, 12, "\"fast\" is the default already"),
        (with("  default: maybe\n"), 4, 12, "boolean"),
        (with("  layout: raid1\n"), 4, 11, "layout: \"raid1\" is not supported yet; supported today: linear"),
        (with("  layout: round\n"), 4, 11, "layout: \"round\" is no layout"),
        (with("  reserve: 101%\n"), 4, 12, "reserve: \"101%\" is no share"),
        (with("  reserve: much\n"), 4, 12, "reserve: \"much\" is no size"),
        (with("  reserve: -1\n"), 4, 12, "reserve: \"-1\" is no size"),
        (with("  reserve: [5%]\n"), 4, 12, "a single word or number"),
        (with("  wipe: shred\n"), 4, 9, "zero, discard or none"),
        (with("  fileSystem: zfs\n"), 4, 15, "supported are ext4, xfs, btrfs"),
        (with("  mkfsOptions: -m 0\n"), 4, 16, "a list is expected"),
        (with("  defaultSize: 0\n"), 4, 16, "defaultSize: must be more than 0"),
        (with("  defaultSize: 8192Pi\n"), 4, 16, "less than 8 EiB"),
        (with("---\nclasses: []\n"), 5, 1, "single YAML document"),
        (with("\twipe: zero\n"), 4, 2, "tabs"),
        (String::from("classes: [\u{0}"), 1, 11, "unexpected"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.reason.contains(reason), "{text:?}: {error}");
        assert_eq!((error.line, error.column), (Some(line), Some(column)), "{text:?}: {error}");
    }
}

#[test]
fn an_error_reads_as_one_sentence_without_control_characters() {
    let error = parse(&with("  layout: \"\\e[31mred\"\n")).unwrap_err();
    assert!(error.to_string().starts_with("line 4, column 11: layout: "), "{error}");
    assert!(!error.to_string().contains(char::is_control), "{error}");
}

#[test]
fn options_are_judged_with_their_file_system_and_the_verdict_has_a_place() {
    let judge = |file_system: &str, mkfs: &[String], mount: &[String]| match (
        mkfs.iter().any(|word| word == "--bad"),
        mount.iter().any(|word| word == "bad"),
    ) {
        (false, false) => Ok(()),
        (true, _) => Err(format!("{file_system} has no --bad")),
        (_, true) => Err(format!("{file_system} cannot be mounted bad")),
    };
    let lines = "  fileSystem: btrfs\n  mkfsOptions: [--good]\n  mountOptions: [bad]\n";
    let error = Classes::parse(&with(lines), judge).unwrap_err();
    assert_eq!(error.to_string(), "line 6, column 17: mountOptions: btrfs cannot be mounted bad");
    let error = Classes::parse(&with(&lines.replace("--good", "--bad")), judge).unwrap_err();
    assert_eq!(error.to_string(), "line 5, column 16: mkfsOptions: btrfs has no --bad");
    assert!(Classes::parse(&with(""), judge).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Classes::read(Path::new("/nowhere/classes.yaml"), |_, _, _| Ok(())).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/classes.yaml cannot be read: "), "{error}");
    assert_eq!(error.line, None);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(classes:\n- name: )?\\PC{0,40}|[a-z:\\[\\]{}&*!|>'\"%#@, \n-]{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn what_a_file_says_is_what_the_class_holds(
        name in "[a-z0-9]([a-z0-9.-]{0,30}[a-z0-9])?",
        group in "[a-zA-Z0-9_+][a-zA-Z0-9+_.-]{0,20}",
        share in 0_u64..=100,
        mebibytes in 1_u64..1 << 30,
    ) {
        let text = format!(
            "classes:\n- name: \"{name}\"\n  volumeGroups: [\"{group}\"]\n  reserve: {share}%\n  defaultSize: {mebibytes}MiB\n"
        );
        let classes = parse(&text).unwrap();
        let class = classes.class(&name).unwrap();
        prop_assert!(class.uses(&group));
        prop_assert_eq!(class.reserve, Portion::Share(share * 100));
        prop_assert_eq!(class.default_size, mebibytes << 20);
    }
}

#[test]
fn classes_that_share_a_thin_pool_agree_on_it() {
    let thin =
        |name: &str, pool: &str| format!("- {{name: {name}, volumeGroups: [vg], layout: thin, thinPool: {pool}}}\n");
    let two = |pool: &str| format!("classes:\n{}{}", thin("a", "{overcommit: 2}"), thin("b", pool));
    assert!(parse(&two("{overcommit: 2}")).is_ok());
    assert!(parse(&two("{name: own}")).is_ok());
    let error = parse(&two("{overcommit: 3}")).unwrap_err();
    assert_eq!(error.line, Some(3));
    assert!(error.reason.contains("thin pool is that of class \"a\""), "{error}");
}

#[test]
fn a_thin_pool_is_for_thin_classes() {
    let error = parse(&with("  thinPool: {overcommit: 2}\n")).unwrap_err();
    assert!(error.reason.contains("for `layout: thin` only"), "{error}");
}
