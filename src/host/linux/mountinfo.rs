//! The text of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`). Pure.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use super::super::kernel::{DeviceNumber, MountEntry};

/// All entries, in the order of the table. A line that cannot be read is an error: a mount that is
/// overlooked could be a volume in use.
pub(super) fn parse(table: &[u8]) -> io::Result<Vec<MountEntry>> {
    let lines = table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            entry(line).ok_or_else(|| {
                let problem = format!("a line of the mount table is not understood: {}", String::from_utf8_lossy(line));
                io::Error::new(io::ErrorKind::InvalidData, problem)
            })
        })
        .collect()
}

fn entry(line: &[u8]) -> Option<MountEntry> {
    // By single spaces: a field may be empty (a mount made with an empty source).
    let mut fields = line.split(|byte| *byte == b' ');
    let device = device_number(fields.nth(2)?)?;
    let root = path(fields.next()?);
    let target = path(fields.next()?);
    let options = options(fields.next()?);
    // Optional fields ("shared:7") follow until a lone hyphen.
    fields.find(|field| *field == b"-")?;
    let file_system = text(fields.next()?);
    let source = text(fields.next()?);
    let super_options = self::options(fields.next()?);
    Some(MountEntry { device, root, target, options, file_system, source, super_options })
}

fn device_number(field: &[u8]) -> Option<DeviceNumber> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn path<P: From<OsString>>(field: &[u8]) -> P {
    OsString::from_vec(unescape(field)).into()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn options(field: &[u8]) -> Vec<String> {
    split(&text(field)).map(str::to_owned).collect()
}

/// The kernel writes space, tab, newline, backslash and sometimes `#` as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = match rest {
            [b'\\', high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', ..] => {
                Some((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'))
            }
            _ => None,
        };
        plain.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &rest[4..] } else { after };
    }
    plain
}

/// Splits at the commas that are not inside double quotes: `context="a:c1,c2"` is one option.
pub(crate) fn split(options: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    options
        .split(move |character| {
            quoted ^= character == '"';
            character == ',' && !quoted
        })
        .filter(|option| !option.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;

    /// As the kernel does it (`mangle_path` with " \t\n\\", `seq_escape` for the source).
    fn escape(plain: &[u8]) -> Vec<u8> {
        plain
            .iter()
            .flat_map(|byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                _ => vec![*byte],
            })
            .collect()
    }

    fn write(entry: &MountEntry, optional: &[&str]) -> Vec<u8> {
        let mut line = format!("36 35 {} ", entry.device).into_bytes();
        line.extend(escape(entry.root.as_os_str().as_bytes()));
        line.push(b' ');
        line.extend(escape(entry.target.as_os_str().as_bytes()));
        line.extend(format!(" {}", entry.options.join(",")).bytes());
        line.extend(optional.iter().flat_map(|field| format!(" {field}").into_bytes()));
        line.extend(format!(" - {} ", entry.file_system).bytes());
        line.extend(escape(entry.source.as_bytes()));
        line.extend(format!(" {}\n", entry.super_options.join(",")).bytes());
        line
    }

    #[test]
    fn a_line_of_the_manual_is_read() {
        let line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n";
        let expected = MountEntry {
            device: DeviceNumber { major: 98, minor: 0 },
            root: "/mnt1".into(),
            target: "/mnt2".into(),
            options: vec!["rw".into(), "noatime".into()],
            file_system: "ext3".into(),
            source: "/dev/root".into(),
            super_options: vec!["rw".into(), "errors=continue".into()],
        };
        assert_eq!(parse(line).unwrap(), [expected]);
    }

    #[test]
    fn an_empty_source_and_a_quoted_comma_are_kept() {
        let line = br#"1 2 0:45 / /t rw - tmpfs  rw,context="system_u:object_r:t:s0:c1,c2",seclabel"#;
        let entry = &parse(line).unwrap()[0];
        assert_eq!(entry.source, "");
        assert_eq!(entry.super_options, ["rw", r#"context="system_u:object_r:t:s0:c1,c2""#, "seclabel"]);
    }

    #[test]
    fn a_damaged_line_is_an_error_that_shows_it() {
        for line in ["36 35 98:0 / /t rw ext4 /dev/x rw", "nonsense", "36 35 98 / /t rw - ext4 /dev/x rw"] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(line), "{error}");
        }
    }

    #[test]
    fn the_table_of_this_process_is_read() {
        let entries = parse(&std::fs::read("/proc/self/mountinfo").unwrap()).unwrap();
        assert!(entries.iter().any(|entry| entry.target == Path::new("/proc")));
    }

    proptest! {
        #[test]
        fn any_path_and_source_survive_the_round_trip(
            major: u32,
            minor: u32,
            root in proptest::collection::vec(any::<u8>(), 0..40),
            target in proptest::collection::vec(any::<u8>(), 0..40),
            source in "\\PC{0,20}",
            optional in proptest::sample::subsequence(vec!["shared:1", "master:2", "unbindable"], 0..3),
        ) {
            let entry = MountEntry {
                device: DeviceNumber { major, minor },
                root: PathBuf::from(OsString::from_vec(root)),
                target: PathBuf::from(OsString::from_vec(target)),
                options: vec!["ro".into()],
                file_system: "xfs".into(),
                source,
                super_options: vec!["rw".into(), "context=\"a,b\"".into()],
            };
            prop_assert_eq!(parse(&write(&entry, &optional)).unwrap(), [entry]);
        }

        #[test]
        fn no_table_makes_the_parser_panic(table in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&table);
        }
    }
}
