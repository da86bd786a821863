//! `quarry check-config`: what a node would say to a classes file, without starting one.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::config::classes::{Class, Classes};
use crate::config::classes_file::ClassesError;
use crate::config::flags::OutputFormat;
use crate::lvm::layout::Layout;
use crate::lvm::portion::Portion;
use crate::lvm::size::Bytes;
use crate::lvm::wipe::Wipe;

/// Writes what the classes of a file mean, or why it is refused; a failure then.
pub fn run(
    file: &Path,
    output: OutputFormat,
    check_options: impl Fn(&str, &[String], &[String]) -> Result<(), String>,
    out: &mut impl Write,
) -> io::Result<ExitCode> {
    let result = Classes::read(file, check_options);
    match output {
        OutputFormat::Text => write!(out, "{}", in_words(file, &result))?,
        OutputFormat::Json => writeln!(out, "{}", as_json(&result))?,
    }
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_words(file: &Path, result: &Result<Classes, ClassesError>) -> String {
    match result {
        // An error without a line names the file itself.
        Err(error) if error.line.is_none() => format!("{error}\n"),
        Err(error) => format!("{}: {error}\n", file.display()),
        Ok(classes) => {
            let default = classes.default_class().map_or_else(
                || String::from("No class is the default: each request must name one."),
                |class| format!("Requests that name no class get {}.", class.name),
            );
            let classes: String = classes.iter().map(class_in_words).collect();
            format!("{classes}{default}\n")
        }
    }
}

fn class_in_words(class: &Class) -> String {
    let groups: Vec<_> = class.volume_groups.iter().map(ToString::to_string).collect();
    let reserve = match class.reserve {
        Portion::Share(0) | Portion::Bytes(0) => String::from("nothing of each group is kept free"),
        reserve => format!("{reserve} of each group is kept free"),
    };
    let wipe = match class.wipe {
        Wipe::Zero => "the blocks of deleted volumes are overwritten with zeroes",
        Wipe::Discard => "the blocks of deleted volumes are discarded",
        Wipe::None => "the blocks of deleted volumes are left as they are: the next volume can read them",
    };
    let with = |words: &[String], what: &str| {
        if words.is_empty() { String::new() } else { format!(", {what} {}", words.join(" ")) }
    };
    let copies = class.copy_rate.map(|rate| format!("  copied with: {} a second\n", Bytes(rate)));
    format!(
        "{}\n  volume groups: {}\n  layout: {}\n  reserve: {reserve}\n  wipe: {wipe}\n  file system: {}{}{}\n  \
         default size: {}\n{}",
        class.name,
        groups.join(", "),
        layout_in_words(&class.layout),
        class.file_system,
        with(&class.mkfs_options, "made with"),
        with(&class.mount_options, "mounted with"),
        Bytes(class.default_size),
        copies.unwrap_or_default(),
    )
}

fn layout_in_words(layout: &Layout) -> String {
    let Layout::Thin(rules) = layout else { return layout.to_string() };
    format!(
        "thin, pool {}: {} of what the class may use, at most {} times promised",
        rules.name,
        rules.size,
        rules.overcommit_factor()
    )
}

fn as_json(result: &Result<Classes, ClassesError>) -> Value {
    match result {
        Err(error) => json!({ "ok": false, "error": error }),
        Ok(classes) => json!({
            "ok": true,
            "defaultClass": classes.default_class().map(|class| &class.name),
            "classes": classes.iter().map(class_as_json).collect::<Vec<_>>(),
        }),
    }
}

/// With the keys of the classes file; sizes in bytes.
fn class_as_json(class: &Class) -> Value {
    json!({
        "name": class.name,
        "volumeGroups": class.volume_groups.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "layout": class.layout.word(),
        "thinPool": thin_pool_as_json(&class.layout),
        "reserve": portion_as_json(class.reserve),
        "snapshotReserve": portion_as_json(class.snapshot_reserve),
        "copyRate": class.copy_rate,
        "wipe": class.wipe.word(),
        "fileSystem": class.file_system,
        "mkfsOptions": class.mkfs_options,
        "mountOptions": class.mount_options,
        "defaultSize": class.default_size,
    })
}

fn portion_as_json(portion: Portion) -> Value {
    match portion {
        Portion::Bytes(bytes) => json!(bytes),
        share @ Portion::Share(_) => json!(share.to_string()),
    }
}

fn thin_pool_as_json(layout: &Layout) -> Option<Value> {
    let Layout::Thin(rules) = layout else { return None };
    Some(json!({
        "name": rules.name,
        "size": portion_as_json(rules.size),
        "metadataSize": rules.metadata_bytes,
        "chunkSize": rules.chunk_bytes,
        "overcommit": rules.overcommit_factor(),
        "growAt": format!("{}%", rules.grow_at),
        "growBy": format!("{}%", rules.grow_by),
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const GOOD: &str = "
classes:
- name: fast
  default: true
  volumeGroups: [nvme-*, spare]
  reserve: 5%
  mkfsOptions: [-m, 0]
  mountOptions: [noatime]
- name: scratch
  volumeGroups: [hdd]
  reserve: 10GiB
  wipe: none
";

    fn checked(text: &str, output: OutputFormat) -> (String, bool, String) {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("classes.yaml");
        fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        let code = run(&file, output, |_, _, _| Ok(()), &mut out).unwrap();
        (String::from_utf8(out).unwrap(), code == ExitCode::SUCCESS, file.display().to_string())
    }

    #[test]
    fn a_good_file_is_told_in_words() {
        let (printed, is_ok, _) = checked(GOOD, OutputFormat::Text);
        let expected = "\
fast
  volume groups: nvme-*, spare
  layout: linear
  reserve: 5% of each group is kept free
  wipe: the blocks of deleted volumes are overwritten with zeroes
  file system: ext4, made with -m 0, mounted with noatime
  default size: 1 GiB
scratch
  volume groups: hdd
  layout: linear
  reserve: 10 GiB of each group is kept free
  wipe: the blocks of deleted volumes are left as they are: the next volume can read them
  file system: ext4
  default size: 1 GiB
Requests that name no class get fast.
";
        assert_eq!((printed.as_str(), is_ok), (expected, true));
    }

    #[test]
    fn a_bad_file_is_refused_with_file_and_line() {
        let bad = GOOD.replace("wipe: none", "wipe: no");
        let (printed, is_ok, file) = checked(&bad, OutputFormat::Text);
        let expected =
            format!("{file}: line 12, column 9: wipe: \"no\" is no way to wipe; write zero, discard or none\n");
        assert_eq!((printed, is_ok), (expected, false));
        let (printed, is_ok, _) = checked(&bad, OutputFormat::Json);
        let json: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!((json["ok"].as_bool(), json["error"]["line"].as_u64(), is_ok), (Some(false), Some(12), false));
    }

    #[test]
    fn programs_get_the_keys_of_the_file_and_bytes() {
        let (printed, is_ok, _) = checked(GOOD, OutputFormat::Json);
        let json: Value = serde_json::from_str(&printed).unwrap();
        assert!(is_ok);
        assert_eq!(json["defaultClass"], "fast");
        assert_eq!(json["classes"][0]["reserve"], "5%");
        assert_eq!(json["classes"][1]["reserve"], 10_u64 << 30);
        assert_eq!(json["classes"][1]["defaultSize"], 1 << 30);
    }

    #[test]
    fn a_file_that_is_not_there_is_named_once() {
        let mut out = Vec::new();
        run(Path::new("/nowhere.yaml"), OutputFormat::Text, |_, _, _| Ok(()), &mut out).unwrap();
        let printed = String::from_utf8(out).unwrap();
        assert_eq!(printed.matches("/nowhere.yaml").count(), 1, "{printed}");
    }
}
