use proptest::prelude::*;

use super::*;

fn parse(file_system: FileSystem, options: &[&str]) -> Result<MountOptions> {
    MountOptions::parse("mount_flags", file_system, options)
}

#[test]
fn options_may_come_one_by_one_or_together() {
    let together = parse(FileSystem::Ext4, &["noatime,discard,commit=30"]).unwrap();
    let one_by_one = parse(FileSystem::Ext4, &["commit=30", "", "discard", "noatime", "discard"]).unwrap();
    assert_eq!(together, one_by_one);
    assert_eq!(together.all(), ["noatime", "commit=30", "discard"]);
    assert_eq!(together.per_mount(), ["noatime"]);
}

#[test]
fn a_label_keeps_its_quotes_and_its_comma() {
    let label = r#"context="system_u:object_r:container_file_t:s0:c1,c2""#;
    let options = parse(FileSystem::Xfs, &["nouuid", label]).unwrap();
    assert_eq!(options.all(), [label, "nouuid"]);
    assert_eq!(options.per_mount(), Vec::<String>::new());
}

#[test]
fn naming_a_default_changes_nothing_and_takes_back_what_came_before() {
    let none = MountOptions::default();
    assert_eq!(parse(FileSystem::Xfs, &["rw,defaults,suid,relatime,async,inode64"]).unwrap(), none);
    assert_eq!(parse(FileSystem::Xfs, &["ro,noatime,sync,inode32", "rw,relatime,async,inode64"]).unwrap(), none);
    let last = parse(FileSystem::Xfs, &["noatime,strictatime,rw,ro"]).unwrap();
    assert_eq!(last.all(), ["ro", "strictatime"]);
    assert!(last.is_read_only() && !none.is_read_only());
    assert_eq!(none.clone().read_only().all(), ["ro"]);
}

#[test]
fn what_differs_only_on_a_single_mount_is_told_from_the_rest() {
    let staged = parse(FileSystem::Ext4, &["discard"]).unwrap();
    assert!(staged.same_file_system_options(&parse(FileSystem::Ext4, &["ro,noexec,discard"]).unwrap()));
    assert!(!staged.same_file_system_options(&parse(FileSystem::Ext4, &["nodiscard"]).unwrap()));
}

#[test]
fn what_is_not_listed_is_refused_by_name_with_what_is() {
    let refused = [
        (FileSystem::Ext4, "journal_path=/dev/sda"),
        (FileSystem::Ext4, "journal_dev=8"),
        (FileSystem::Ext4, "errors=panic"),
        (FileSystem::Ext4, "nouuid"),
        (FileSystem::Ext4, "barrier=0"),
        (FileSystem::Ext4, "loop"),
        (FileSystem::Ext4, "bind"),
        (FileSystem::Ext4, "remount"),
        (FileSystem::Ext4, "commit"),
        (FileSystem::Ext4, "commit="),
        (FileSystem::Ext4, "noatime=1"),
        (FileSystem::Ext4, " noatime"),
        (FileSystem::Ext4, "NOATIME"),
        (FileSystem::Ext4, "context"),
        (FileSystem::Ext4, "context=a:b\nc"),
        (FileSystem::Xfs, "logdev=/dev/sda"),
        (FileSystem::Xfs, "rtdev=/dev/sda"),
        (FileSystem::Xfs, "norecovery"),
        (FileSystem::Btrfs, "device=/dev/sda"),
        (FileSystem::Btrfs, "subvol=/"),
        (FileSystem::Btrfs, "subvolid=5"),
        (FileSystem::Btrfs, "degraded"),
        (FileSystem::Btrfs, "compress=gzip"),
    ];
    for (file_system, option) in refused {
        let error = parse(file_system, &["nosuid", option]).unwrap_err().to_string();
        let name = option.split('=').next().unwrap().trim();
        assert!(error.starts_with("mount_flags: ") && error.contains(name), "{option}: {error}");
    }
    let error = parse(FileSystem::Btrfs, &["subvol=/"]).unwrap_err().to_string();
    assert!(error.contains("not allowed for btrfs") && error.contains(" noatime, ") && error.contains("compress="));
    assert!(parse(FileSystem::Ext4, &["context=\"a:b"]).unwrap_err().to_string().contains("quote"));
}

#[test]
fn values_may_be_left_out_where_the_file_system_has_a_default() {
    let options = parse(FileSystem::Btrfs, &["compress,discard=async"]).unwrap();
    assert_eq!(options.all(), ["compress", "discard=async"]);
}

/// Any allowed option, by the tables themselves.
fn an_option() -> impl Strategy<Value = String> {
    let (choices, _) = tables(FileSystem::Ext4);
    let names: Vec<String> = PER_MOUNT
        .iter()
        .chain(FILE_SYSTEM)
        .chain(choices)
        .flat_map(|choice| choice.default.iter().chain(choice.others))
        .map(|name| (*name).to_owned())
        .chain(["commit=5", "errors=remount-ro", r#"context="u:r:t:s0:c1,c2""#].map(String::from))
        .collect();
    proptest::sample::select(names)
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(options in proptest::collection::vec("\\PC{0,30}", 0..4)) {
        let _ = MountOptions::parse("mount_flags", FileSystem::Xfs, &options);
    }

    #[test]
    fn options_parse_to_the_same_from_what_they_are_written_as(
        options in proptest::collection::vec(an_option(), 0..12),
    ) {
        let parsed = MountOptions::parse("f", FileSystem::Ext4, &options).unwrap();
        let joined = options.join(",");
        prop_assert_eq!(&MountOptions::parse("f", FileSystem::Ext4, &[joined]).unwrap(), &parsed);
        prop_assert_eq!(&MountOptions::parse("f", FileSystem::Ext4, &parsed.all()).unwrap(), &parsed);
    }

    #[test]
    fn whatever_is_accepted_is_one_of_the_known_options(text in "[a-z_=:,\"0-9/-]{0,30}") {
        if let Ok(parsed) = MountOptions::parse("f", FileSystem::Btrfs, std::slice::from_ref(&text)) {
            for option in parsed.all() {
                prop_assert!(!option.contains('/'), "{option}");
            }
        }
    }
}
