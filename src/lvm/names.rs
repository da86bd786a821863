//! Names: which ones CSI allows, which ones LVM allows, and how the first become the second.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Longest name that a CSI request may carry, bytes.
pub const CSI_NAME_LIMIT: usize = 128;

/// Longest name of a logical volume made by this driver, bytes. LVM allows more; this much fits in a
/// volume id beside a node's name of 63.
pub const LOGICAL_VOLUME_NAME_LIMIT: usize = 63;

/// Longest name of a device-mapper device, bytes (`DM_NAME_LEN` without the final zero).
const DEVICE_MAPPER_NAME_LIMIT: usize = 127;

/// With what every snapshot's logical volume begins, and no volume's.
const SNAPSHOT_PREFIX: &str = "snap-";

/// Hexadecimal digits of the hash in a derived name.
const HASH_DIGITS: usize = 32;

/// Longest readable part of a derived name.
const READABLE_LIMIT: usize = 24;

/// What a logical volume's name must not begin with: lvm(8) and lvm's own check, which refuses more than the page says.
const RESERVED_PREFIXES: [&str; 2] = ["snapshot", "pvmove"];

/// What a logical volume's name must not contain: what lvm 2.03.16 and 2.03.31 refuse, two more than lvm(8) lists.
const RESERVED_PARTS: [&str; 17] = [
    "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage",
    "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
];

/// Whether a CSI name may be used: 1 to 128 bytes, and none of the control characters that CSI forbids (tab,
/// line feed and carriage return are allowed). The error says what is wrong, without naming the field.
pub fn check_csi_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(String::from("must not be empty"));
    }
    if name.len() > CSI_NAME_LIMIT {
        return Err(format!("is {} bytes long; at most {CSI_NAME_LIMIT} are allowed", name.len()));
    }
    match name.chars().find(|character| is_forbidden_by_csi(*character)) {
        Some(character) => {
            Err(format!("contains the control character U+{:04X}, which is not allowed", u32::from(character)))
        }
        None => Ok(()),
    }
}

fn is_forbidden_by_csi(character: char) -> bool {
    character.is_control() && !matches!(character, '\t' | '\n' | '\r')
}

/// Whether LVM takes this name for a new logical volume. Its length is limited through [`fits_device_mapper`].
pub fn is_legal_logical_volume_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_' | b'.' | b'-');
    !name.is_empty()
        && name.bytes().all(is_legal)
        && !name.starts_with('-')
        && name != "."
        && name != ".."
        && !RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !RESERVED_PARTS.iter().any(|part| name.contains(part))
}

/// The name of the logical volume for a CSI name, always the same one: the CSI name itself where it is legal and
/// short enough, else a readable part and a hash of the whole.
pub fn logical_volume_name(csi_name: &str) -> String {
    // A name that looks like a derived one is derived, too: no request can name itself into another one's volume.
    let is_usable = csi_name.len() <= LOGICAL_VOLUME_NAME_LIMIT
        && is_legal_logical_volume_name(csi_name)
        && !csi_name.starts_with(SNAPSHOT_PREFIX)
        && !looks_derived(csi_name);
    if is_usable { csi_name.to_owned() } else { derived("", csi_name) }
}

/// The name of the logical volume for the CSI name of a snapshot, always the same one and never a volume's. Of
/// external-snapshotter's `snapshot-UUID` it is `snap-UUID`; lvm takes no name that begins with `snapshot`.
pub fn snapshot_name(csi_name: &str) -> String {
    let uuid = csi_name.strip_prefix("snapshot-").filter(|uuid| is_uuid(uuid));
    uuid.map_or_else(|| derived(SNAPSHOT_PREFIX, csi_name), |uuid| format!("{SNAPSHOT_PREFIX}{uuid}"))
}

/// The name within the id of a group snapshot, always the same one for its CSI name. Nothing on the disks is called so.
pub fn group_snapshot_name(csi_name: &str) -> String {
    derived("group-", csi_name)
}

/// The name of the logical volume for the snapshot of a volume that a group snapshot takes.
pub fn member_name(group_snapshot: &str, volume: &str) -> String {
    // As below.
    derived(SNAPSHOT_PREFIX, &format!("{volume}\0{group_snapshot}"))
}

/// The name of what a volume is copied from while it is in use.
pub fn copy_source_name(copy: &str) -> String {
    // No CSI name has that character, so no snapshot can be called the same.
    derived(SNAPSHOT_PREFIX, &format!("copy\0{copy}"))
}

/// Whether a logical volume of that name is a snapshot rather than a volume, if it is ours.
pub fn is_snapshot_name(logical_name: &str) -> bool {
    logical_name.starts_with(SNAPSHOT_PREFIX)
}

fn derived(prefix: &str, csi_name: &str) -> String {
    let readable = readable_part(csi_name);
    let mut taken = RESERVED_PREFIXES.into_iter().chain([SNAPSHOT_PREFIX]);
    let is_reserved = taken.any(|start| readable.starts_with(start));
    let prefix = if prefix.is_empty() && is_reserved { "v-" } else { prefix };
    format!("{prefix}{readable}-{}", hash(csi_name))
}

/// Five groups of hexadecimal digits, as Kubernetes writes them.
fn is_uuid(text: &str) -> bool {
    let is_hexadecimal = |group: &str| group.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.into_iter().all(is_hexadecimal)
}

fn looks_derived(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == HASH_DIGITS && end.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Letters, digits, dots and single hyphens of the name. Without `_` no reserved part can arise.
fn readable_part(name: &str) -> String {
    let mut readable = String::new();
    for character in name.chars() {
        let character = if character.is_ascii_alphanumeric() || character == '.' { character } else { '-' };
        let is_redundant = character == '-' && (readable.is_empty() || readable.ends_with('-'));
        if !is_redundant {
            readable.push(character);
        }
        if readable.len() == READABLE_LIMIT {
            break;
        }
    }
    let readable = readable.trim_end_matches('-');
    if readable.is_empty() {
        return String::from("volume");
    }
    readable.to_owned()
}

fn hash(name: &str) -> String {
    hexadecimal(&Sha256::digest(name.as_bytes())[..HASH_DIGITS / 2])
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether device-mapper has room for the device of this volume, whose name is the group's and the volume's,
/// hyphens doubled, with a hyphen between.
pub fn fits_device_mapper(group: &str, logical_volume: &str) -> bool {
    let escaped = |name: &str| name.len() + name.bytes().filter(|byte| *byte == b'-').count();
    escaped(group) + 1 + escaped(logical_volume) <= DEVICE_MAPPER_NAME_LIMIT
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const PVC: &str = "pvc-5f6c3d0e-9f3d-4d3e-8c4b-6d1e2f3a4b5c";

    #[test]
    fn ordinary_names_are_used_as_they_are() {
        for name in [PVC, "a", "A+b_c.d-e", ".hidden", "...", "thin_data", &"x".repeat(63)] {
            assert_eq!(logical_volume_name(name), name);
        }
    }

    #[test]
    fn names_that_lvm_refuses_become_readable_ones_with_a_hash() {
        for (name, readable) in [
            ("snapshot-0815", "v-snapshot-0815"),
            ("pvmove0", "v-pvmove0"),
            ("my data", "my-data"),
            ("-x", "x"),
            (".", "."),
            ("..", ".."),
            ("daten/träger", "daten-tr-ger"),
            ("日本", "volume"),
            ("pool_tdata", "pool-tdata"),
            (&"y".repeat(64), &"y".repeat(24)),
        ] {
            let derived = logical_volume_name(name);
            let (start, hash) = derived.rsplit_once('-').unwrap();
            assert_eq!((start, hash.len()), (readable, 32), "{name}");
            assert!(is_legal_logical_volume_name(&derived), "{derived}");
        }
    }

    #[test]
    fn a_derived_name_never_changes_between_versions() {
        // A changed rule would make existing volumes unfindable by their CSI name.
        assert_eq!(logical_volume_name("my data"), "my-data-b2167b0aa7ef7794740b055ac7a880a5");
    }

    #[test]
    fn a_snapshot_is_named_like_no_volume() {
        let uuid = "5f6c3d0e-9f3d-4d3e-8c4b-6d1e2f3a4b5c";
        let ours = format!("snap-{uuid}");
        assert_eq!(snapshot_name(&format!("snapshot-{uuid}")), ours);
        for name in ["snapshot-0815", "nightly", "ä", uuid, &ours, &format!("snapshot-{uuid}x"), &"y".repeat(128)] {
            let derived = snapshot_name(name);
            assert_ne!(derived, ours, "{name}");
            assert!(is_snapshot_name(&derived) && is_legal_logical_volume_name(&derived), "{derived}");
            assert!(derived.len() <= LOGICAL_VOLUME_NAME_LIMIT, "{derived}");
            for volume in [name, derived.as_str()] {
                assert!(!is_snapshot_name(&logical_volume_name(volume)), "{volume}");
            }
        }
    }

    #[test]
    fn a_snapshot_of_a_group_is_named_like_none_that_was_asked_for() {
        let long = "n".repeat(CSI_NAME_LIMIT);
        let names = [member_name("g", "v"), member_name("g", "w"), member_name("h", "v"), member_name(&long, &long)];
        for name in &names {
            assert!(is_snapshot_name(name) && is_legal_logical_volume_name(name), "{name}");
            assert!(name.len() <= LOGICAL_VOLUME_NAME_LIMIT, "{name}");
        }
        assert!(names.iter().enumerate().all(|(index, name)| !names[..index].contains(name)), "{names:?}");
        let group = group_snapshot_name(&long);
        assert!(group.len() <= LOGICAL_VOLUME_NAME_LIMIT && is_legal_logical_volume_name(&group), "{group}");
    }

    #[test]
    fn names_that_differ_only_beyond_the_limit_stay_apart() {
        let start = "z".repeat(127);
        assert_ne!(logical_volume_name(&format!("{start}a")), logical_volume_name(&format!("{start}b")));
    }

    #[test]
    fn no_request_can_name_itself_into_the_volume_of_another() {
        let victim = logical_volume_name("my data");
        assert_ne!(logical_volume_name(&victim), victim);
    }

    #[test]
    fn every_reserved_name_is_known() {
        for part in RESERVED_PARTS {
            assert!(!is_legal_logical_volume_name(&format!("a{part}0")));
        }
        for name in ["", "-a", ".", "..", "snapshot", "snapshots", "pvmove1", "a b", "a/b", "ä", "a\n"] {
            assert!(!is_legal_logical_volume_name(name), "{name:?}");
        }
    }

    #[test]
    fn csi_names_are_limited_in_bytes_and_control_characters() {
        for name in ["a", " ", "tab\tand\nlines\r", "ü", "\u{a0}", &"a".repeat(128), &"ä".repeat(64)] {
            assert_eq!(check_csi_name(name), Ok(()), "{name:?}");
        }
        for name in ["", "\0", "\u{8}", "\u{b}", "\u{c}", "\u{e}", "\u{1f}", "\u{7f}", "\u{9f}"] {
            assert!(check_csi_name(name).is_err(), "{name:?}");
        }
        assert_eq!(check_csi_name(&"a".repeat(129)).unwrap_err(), "is 129 bytes long; at most 128 are allowed");
        assert!(check_csi_name("a\u{1b}").unwrap_err().contains("U+001B"));
    }

    #[test]
    fn hyphens_count_twice_for_device_mapper() {
        assert!(fits_device_mapper(&"g".repeat(63), &"l".repeat(63)));
        assert!(!fits_device_mapper(&"g".repeat(63), &"l".repeat(64)));
        assert!(fits_device_mapper(&"-".repeat(31), &"l".repeat(63)));
        assert!(!fits_device_mapper(&"-".repeat(32), &"l".repeat(63)));
    }

    proptest! {
        #[test]
        fn any_name_becomes_a_legal_short_one(name in "\\PC{1,128}") {
            let derived = logical_volume_name(&name);
            prop_assert!(is_legal_logical_volume_name(&derived));
            prop_assert!(derived.len() <= LOGICAL_VOLUME_NAME_LIMIT);
            prop_assert_eq!(&derived, &logical_volume_name(&name));
        }

        #[test]
        fn different_names_become_different_volumes(names in proptest::collection::hash_set("(pvc-|snapshot)?[a-f_ -]{0,4}(ä|[0-9a-f]{32})?", 2..40)) {
            let mut seen = HashMap::new();
            for name in names {
                let other = seen.insert(logical_volume_name(&name), name.clone());
                prop_assert!(other.is_none(), "{:?} and {:?}", other, name);
            }
        }
    }
}
