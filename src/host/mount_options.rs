//! Which mount options a request may carry, and what they mean to the driver. An allow-list: mounts are
//! made as root, and some options name a device or a path that is not the caller's to choose.

use crate::host::file_system::FileSystem;
use crate::host::mount_option_tables::{GENERIC, NAMES_A_DEVICE_OR_PATH, PER_MOUNT, PER_MOUNT_ANYWAY, own};
use crate::host::option_values;

/// Splits words like `noatime,discard` at their commas; a comma in double quotes belongs to its option, as
/// in `context="…:c1,c2"`. Nothing is trimmed. Refuses control characters, empty options and a quote that
/// is never closed.
pub fn parse(words: &[String]) -> Result<Vec<String>, String> {
    let mut options = Vec::new();
    for word in words {
        if word.chars().any(char::is_control) {
            return Err(format!("{word:?} has a control character; write options like noatime,discard"));
        }
        let mut quoted = false;
        let items = word.split(|letter: char| {
            quoted ^= letter == '"';
            letter == ',' && !quoted
        });
        for item in items {
            if item.is_empty() {
                return Err(format!("{word:?} has an empty option; write options like noatime,discard"));
            }
            options.push(item.to_owned());
        }
        if quoted {
            return Err(format!("{word:?} has a double quote that is not closed; close it"));
        }
    }
    Ok(options)
}

/// Checks that each option may be used with this file system. The message names the option and says what
/// is right.
pub fn check(file_system: FileSystem, options: &[String]) -> Result<(), String> {
    for option in options {
        let name = option.split_once('=').map_or(option.as_str(), |(name, _)| name);
        if NAMES_A_DEVICE_OR_PATH.contains(&name) {
            return Err(format!(
                "mount option {option:?} is not allowed: the device and what of it is mounted are the driver's to \
                 choose; leave it out"
            ));
        }
        let own = own(file_system);
        let table = [GENERIC, own].into_iter().find(|table| table.iter().any(|(known, _)| *known == name));
        let Some(table) = table else {
            return Err(format!(
                "mount option {option:?} is not allowed for {file_system}; allowed are {}, {}",
                option_values::names(GENERIC),
                option_values::names(own)
            ));
        };
        option_values::check_pair(option, table).map_err(|problem| format!("mount option {problem}"))?;
    }
    Ok(())
}

/// What the options make of a single mount, as a bind mount can set it for itself alone: without what later options
/// undo, and without what every mount is anyway.
pub fn per_mount(options: &[String]) -> Vec<String> {
    let last_of = |family: &&[&str]| options.iter().rev().find(|option| family.contains(&option.as_str()));
    let in_force = PER_MOUNT.iter().filter_map(last_of);
    in_force.filter(|option| !PER_MOUNT_ANYWAY.contains(&option.as_str())).cloned().collect()
}

/// Whether a mount with these options in the mount table is as an option of [`per_mount`] says. The table has no word
/// for `strictatime`.
pub fn shows(mounted_with: &[String], option: &str) -> bool {
    match option {
        "strictatime" => !mounted_with.iter().any(|word| ["noatime", "relatime"].contains(&word.as_str())),
        _ => mounted_with.iter().any(|word| word == option),
    }
}

/// Whether the options make the mount read-only; as for mount(8), the last word on it counts.
pub fn is_read_only(options: &[String]) -> bool {
    options.iter().rev().find(|option| ["ro", "rw"].contains(&option.as_str())).is_some_and(|option| option == "ro")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    const CONTEXT: &str = "context=\"system_u:object_r:container_file_t:s0:c1,c2\"";

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn words_are_split_at_commas_outside_quotes() {
        let split = parse(&words(&["noatime,discard", CONTEXT, "a=\"1,2\",b"]));
        assert_eq!(split, Ok(words(&["noatime", "discard", CONTEXT, "a=\"1,2\"", "b"])));
        assert_eq!(parse(&[]), Ok(Vec::new()));
        assert_eq!(parse(&words(&[" ro"])), Ok(words(&[" ro"])));
    }

    #[test]
    fn empty_options_control_characters_and_open_quotes_are_refused() {
        for wrong in ["", "ro,", ",ro", "ro,,rw", "ro\n", "a\0b", "context=\"a,b", "\""] {
            assert!(parse(&words(&[wrong])).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn harmless_options_are_allowed() {
        let allowed = |file_system, text: &str| {
            let options = parse(&words(&[text])).unwrap();
            assert_eq!(check(file_system, &options), Ok(()), "{file_system}");
        };
        for file_system in FileSystem::ALL {
            allowed(file_system, "ro,noatime,nodiratime,nosuid,nodev,noexec,lazytime,sync,dirsync,discard");
            allowed(file_system, CONTEXT);
            allowed(file_system, "fscontext=system_u:object_r:container_file_t:s0");
        }
        allowed(FileSystem::Ext4, "data=ordered,commit=30,barrier,errors=remount-ro,stripe=16,init_itable=10,prjquota");
        allowed(FileSystem::Xfs, "inode64,allocsize=64m,logbufs=8,logbsize=256k,nouuid,pquota");
        allowed(FileSystem::Btrfs, "compress=zstd:3,compress-force,space_cache=v2,ssd,discard=async,commit=30,datacow");
    }

    #[test]
    fn devices_paths_and_the_unknown_are_refused() {
        for (file_system, texts) in [
            (
                FileSystem::Ext4,
                "journal_path=/dev/sda journal_dev=8 compress=zstd data=x commit=-1 commit= sb=1 Ro ro=1",
            ),
            (FileSystem::Xfs, "logdev=/dev/sda rtdev=/dev/sda data=ordered allocsize=/ discard=async logbufs=9"),
            (FileSystem::Btrfs, "device=/dev/sda subvol=/x subvolid=5 compress=gzip discard=never degraded rescue=all"),
            (
                FileSystem::Ext4,
                "bind remount move loop loop=/x user x-mount.mkdir context= context=a,b context=\"a:b:c",
            ),
        ] {
            for text in texts.split(' ') {
                assert!(check(file_system, &words(&[text])).is_err(), "{file_system} {text}");
            }
        }
    }

    #[test]
    fn a_message_names_the_option_and_what_is_right() {
        let problem = |file_system, option| check(file_system, &words(&[option])).unwrap_err();
        assert!(problem(FileSystem::Btrfs, "subvol=/x").contains("\"subvol=/x\" is not allowed: the device"));
        let unknown = problem(FileSystem::Xfs, "data=ordered");
        assert!(
            unknown.contains("\"data=ordered\" is not allowed for xfs") && unknown.contains("inode64"),
            "{unknown}"
        );
        let wrong = problem(FileSystem::Ext4, "data=x");
        assert!(wrong.ends_with("data takes one of journal, ordered, writeback"), "{wrong}");
    }

    #[test]
    fn a_bind_mount_gets_only_what_it_can_set() {
        let options = words(&["discard", "ro", CONTEXT, "noatime", "lazytime", "nosuid", "data=ordered"]);
        assert_eq!(per_mount(&options), words(&["ro", "nosuid", "noatime"]));
        let undone = words(&["ro", "rw", "noatime", "nosuid", "relatime", "suid", "exec"]);
        assert_eq!(per_mount(&undone), words(&["relatime"]));
    }

    #[test]
    fn strict_access_times_are_seen_by_what_is_not_there() {
        assert!(shows(&words(&["rw", "nosuid"]), "strictatime"));
        assert!(!shows(&words(&["rw", "relatime"]), "strictatime"));
        assert!(shows(&words(&["rw", "relatime"]), "relatime") && !shows(&words(&["rw"]), "noatime"));
    }

    #[test]
    fn the_last_word_on_writing_counts() {
        assert!(is_read_only(&words(&["rw", "ro", "noatime"])));
        assert!(!is_read_only(&words(&["ro", "rw"])));
        assert!(!is_read_only(&words(&["noatime", "errors=remount-ro"])));
    }

    /// One option with nothing that `parse` would take apart.
    fn option() -> impl Strategy<Value = String> {
        prop_oneof!["[^,\"\\p{Cc}]{1,12}", "[a-z]{1,8}=\"[^\"\\p{Cc}]{0,12}\""]
    }

    /// Options that are right for some file system, or would name a device, with a character put in somewhere.
    fn almost_right() -> impl Strategy<Value = String> {
        let right = "ro rootcontext=a:b:c commit=30 allocsize=64m errors=remount-ro compress=zstd:3 device=a";
        let right: Vec<&str> = right.split(' ').chain([CONTEXT, CONTEXT]).collect();
        let odd: Vec<char> = "/,=\":.-\n\0\u{7f}\u{85}1a ".chars().collect();
        let put_in = proptest::option::of(prop_oneof![3 => select(odd), 1 => any::<char>()]);
        (proptest::collection::vec(select(right), 1..3), any::<Index>(), put_in).prop_map(|(options, place, put_in)| {
            let mut letters: Vec<char> = options.join(",").chars().collect();
            let place = place.index(letters.len() + 1);
            letters.splice(place..place, put_in);
            letters.into_iter().collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn options_come_back_from_one_word_and_from_many(
            options in proptest::collection::vec(option(), 1..6),
        ) {
            prop_assert_eq!(parse(&[options.join(",")]), Ok(options.clone()));
            prop_assert_eq!(parse(&options), Ok(options));
        }

        #[test]
        fn nothing_that_passes_names_a_device_or_path_or_has_a_control_character(
            text in prop_oneof![1 => any::<String>(), 3 => almost_right()],
        ) {
            let passes = |options: &Vec<String>| FileSystem::ALL.into_iter().any(|one| check(one, options).is_ok());
            for option in parse(&[text]).ok().filter(passes).unwrap_or_default() {
                let name = option.split('=').next().unwrap_or_default();
                prop_assert!(!NAMES_A_DEVICE_OR_PATH.contains(&name), "{option:?}");
                prop_assert!(!option.contains('/') && !option.chars().any(char::is_control), "{option:?}");
            }
        }
    }
}
