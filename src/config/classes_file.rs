//! Reads the classes file. It is taken or refused as a whole; a refusal says where and why.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_saphyr::{Error as YamlError, Location, MessageFormatter, Spanned, UserMessageFormatter};

use crate::config::classes::{Class, Classes, DEFAULT_SIZE_BYTES, FILE_SYSTEMS};
use crate::config::thin_pool::{RawThinPool, misplaced};
use crate::config::trim_schedule::TrimSchedule;
use crate::lvm::layout::Layout;
use crate::lvm::size::Bytes;

/// Least bytes a second that volumes are copied with: slower, nobody would wait for the end.
const LEAST_COPY_RATE: u64 = 1 << 20;

/// Longest name of a class, bytes.
const NAME_LIMIT: usize = 63;

/// Largest classes file, bytes: what a `ConfigMap` can hold.
const SIZE_LIMIT: u64 = 1 << 20;

/// Why a classes file is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct ClassesError {
    /// The line, counted from 1; `None` when the file cannot be read at all.
    pub line: Option<u64>,
    /// The column, counted from 1.
    pub column: Option<u64>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for ClassesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(formatter, "line {line}, column {column}: ")?;
        }
        formatter.write_str(&self.reason)
    }
}

impl ClassesError {
    pub(super) fn at(location: Location, reason: impl Into<String>) -> Self {
        Self { line: Some(location.line()), column: Some(location.column()), reason: reason.into() }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    classes: Spanned<Vec<RawClass>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawClass {
    name: Spanned<String>,
    default: Option<Spanned<bool>>,
    volume_groups: Spanned<Vec<Spanned<String>>>,
    layout: Option<Spanned<String>>,
    thin_pool: Option<Spanned<RawThinPool>>,
    reserve: Option<Spanned<String>>,
    snapshot_reserve: Option<Spanned<String>>,
    copy_rate: Option<Spanned<String>>,
    wipe: Option<Spanned<String>>,
    trim_every: Option<Spanned<String>>,
    file_system: Option<Spanned<String>>,
    mkfs_options: Option<Spanned<Vec<String>>>,
    mount_options: Option<Spanned<Vec<String>>>,
    default_size: Option<Spanned<String>>,
}

impl Classes {
    /// The classes of a file. `check_options` judges the words of `mkfsOptions` and `mountOptions` for a file
    /// system: it is given the file system, the first and the second, and says what is wrong with them.
    pub fn parse(
        text: &str,
        check_options: impl Fn(&str, &[String], &[String]) -> Result<(), String>,
    ) -> Result<Self, ClassesError> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| yaml_error(text, &error))?;
        if file.classes.value.is_empty() {
            return Err(ClassesError::at(file.classes.referenced, "there are no classes; at least one is needed"));
        }
        let mut names: Vec<Spanned<String>> = Vec::new();
        let mut default: Option<Spanned<String>> = None;
        let mut classes: Vec<Class> = Vec::new();
        for raw in file.classes.value {
            let name = raw.name.clone();
            if let Some(first) = names.iter().find(|first| first.value == name.value) {
                let reason = format!("the name {:?} stands in line {} already", name.value, first.referenced.line());
                return Err(ClassesError::at(name.referenced, reason));
            }
            if let Some(declared) = raw.default.as_ref().filter(|declared| declared.value) {
                if let Some(first) = &default {
                    let reason = format!("{:?} is the default already; only one class can be", first.value);
                    return Err(ClassesError::at(declared.referenced, reason));
                }
                default = Some(name.clone());
            }
            names.push(name.clone());
            let class = raw.check(&check_options)?;
            if let Some(other) = classes.iter().find(|other| differ_about_a_pool(other, &class)) {
                let reason = format!(
                    "its thin pool is that of class {:?}, so thinPool must be the same in both (or its name another)",
                    other.name
                );
                return Err(ClassesError::at(name.referenced, reason));
            }
            classes.push(class);
        }
        Ok(Self::from_checked(classes))
    }

    /// The classes of the file at `path`, read now.
    pub fn read(
        path: &Path,
        check_options: impl Fn(&str, &[String], &[String]) -> Result<(), String>,
    ) -> Result<Self, ClassesError> {
        Self::parse(&read_text(path)?, check_options)
    }
}

/// Whether both mean a pool of the same name and say different things of it.
fn differ_about_a_pool(one: &Class, other: &Class) -> bool {
    match (&one.layout, &other.layout) {
        (Layout::Thin(one), Layout::Thin(other)) => one.name == other.name && one != other,
        _ => false,
    }
}

/// The content of a classes file, symbolic links followed.
pub(super) fn read_text(path: &Path) -> Result<String, ClassesError> {
    let unreadable = |reason: &dyn fmt::Display| ClassesError {
        line: None,
        column: None,
        reason: format!("{} cannot be read: {reason}", path.display()),
    };
    let metadata = fs::metadata(path).map_err(|error| unreadable(&error))?;
    // A pipe or a device would block the caller, or never end.
    if !metadata.is_file() {
        return Err(unreadable(&"it is no file"));
    }
    if metadata.len() > SIZE_LIMIT {
        return Err(unreadable(&"it is larger than 1 MiB"));
    }
    fs::read_to_string(path).map_err(|error| unreadable(&error))
}

impl RawClass {
    fn check(
        self,
        check_options: impl Fn(&str, &[String], &[String]) -> Result<(), String>,
    ) -> Result<Class, ClassesError> {
        check_name(&self.name.value)
            .map_err(|reason| ClassesError::at(self.name.referenced, format!("name: {reason}")))?;
        if self.volume_groups.value.is_empty() {
            return Err(ClassesError::at(self.volume_groups.referenced, "volumeGroups: at least one is needed"));
        }
        let patterns =
            self.volume_groups.value.iter().map(|text| value("volumeGroups", text)).collect::<Result<_, _>>()?;
        let defaults = Class::new(self.name.value, patterns);
        let file_system = match &self.file_system {
            Some(word) => file_system(word)?,
            None => defaults.file_system,
        };
        let judge = |key, words: &Option<Spanned<Vec<String>>>, verdict: Result<(), String>| match (words, verdict) {
            (Some(words), Err(reason)) => Err(ClassesError::at(words.referenced, format!("{key}: {reason}"))),
            _ => Ok(()),
        };
        let words =
            |list: &Option<Spanned<Vec<String>>>| list.as_ref().map(|list| list.value.clone()).unwrap_or_default();
        let (mkfs_options, mount_options) = (words(&self.mkfs_options), words(&self.mount_options));
        judge("mkfsOptions", &self.mkfs_options, check_options(&file_system, &mkfs_options, &[]))?;
        judge("mountOptions", &self.mount_options, check_options(&file_system, &[], &mount_options))?;
        let layout = layout(self.layout.as_ref(), self.thin_pool)?;
        let trim = if matches!(layout, Layout::Thin(_)) { TrimSchedule::DAILY } else { defaults.trim };
        Ok(Class {
            default: self.default.is_some_and(|default| default.value),
            layout,
            reserve: value_or("reserve", self.reserve.as_ref(), defaults.reserve)?,
            snapshot_reserve: value_or("snapshotReserve", self.snapshot_reserve.as_ref(), defaults.snapshot_reserve)?,
            copy_rate: copy_rate(self.copy_rate.as_ref())?,
            wipe: value_or("wipe", self.wipe.as_ref(), defaults.wipe)?,
            trim: value_or("trimEvery", self.trim_every.as_ref(), trim)?,
            default_size: default_size(self.default_size.as_ref())?,
            file_system,
            mkfs_options,
            mount_options,
            ..defaults
        })
    }
}

fn layout(word: Option<&Spanned<String>>, thin_pool: Option<Spanned<RawThinPool>>) -> Result<Layout, ClassesError> {
    match (value_or("layout", word, Layout::Linear)?, thin_pool) {
        (Layout::Thin(_), Some(thin_pool)) => Ok(Layout::Thin(thin_pool.value.check()?)),
        (Layout::Linear, Some(thin_pool)) => Err(misplaced(thin_pool.referenced)),
        (layout, None) => Ok(layout),
    }
}

pub(super) fn value<T: FromStr<Err: fmt::Display>>(key: &str, text: &Spanned<String>) -> Result<T, ClassesError> {
    text.value.parse().map_err(|reason| ClassesError::at(text.referenced, format!("{key}: {reason}")))
}

fn value_or<T: FromStr<Err: fmt::Display>>(
    key: &str,
    text: Option<&Spanned<String>>,
    default: T,
) -> Result<T, ClassesError> {
    text.map_or(Ok(default), |text| value(key, text))
}

/// The same letters as in the names of Kubernetes objects.
fn check_name(name: &str) -> Result<(), String> {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let is_legal = bytes.len() <= NAME_LIMIT
        && bytes.iter().all(|byte| is_alphanumeric(byte) || matches!(byte, b'-' | b'.'))
        && bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric);
    if is_legal {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name for a class; lower-case letters, digits, - and . are allowed, a letter or digit at both \
         ends, at most {NAME_LIMIT} characters"
    ))
}

fn file_system(word: &Spanned<String>) -> Result<String, ClassesError> {
    if FILE_SYSTEMS.contains(&word.value.as_str()) {
        return Ok(word.value.clone());
    }
    let reason = format!("fileSystem: {:?} is not supported; supported are {}", word.value, FILE_SYSTEMS.join(", "));
    Err(ClassesError::at(word.referenced, reason))
}

fn default_size(text: Option<&Spanned<String>>) -> Result<u64, ClassesError> {
    let Some(text) = text else {
        return Ok(DEFAULT_SIZE_BYTES);
    };
    let Bytes(bytes) = value("defaultSize", text)?;
    // CSI counts bytes in signed 64-bit numbers.
    if bytes == 0 || i64::try_from(bytes).is_err() {
        return Err(ClassesError::at(text.referenced, "defaultSize: must be more than 0 and less than 8 EiB"));
    }
    Ok(bytes)
}

fn copy_rate(text: Option<&Spanned<String>>) -> Result<Option<u64>, ClassesError> {
    let Some(text) = text else { return Ok(None) };
    let Bytes(bytes) = value("copyRate", text)?;
    if bytes < LEAST_COPY_RATE {
        return Err(ClassesError::at(text.referenced, "copyRate: must be at least 1MiB, for each second"));
    }
    Ok(Some(bytes))
}

/// What the YAML parser says, in words for people who write the file and not for those who program the parser.
fn yaml_error(text: &str, error: &YamlError) -> ClassesError {
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let reason = match error {
        YamlError::Eof { .. } => String::from("the file is empty; it needs a list `classes:`"),
        YamlError::Unexpected { expected: "sequence start", .. } => {
            String::from("a list is expected here: [a, b], or lines that begin with -")
        }
        YamlError::Unexpected { expected: "mapping start", .. } => {
            String::from("keys with values are expected here, such as `name: fast`")
        }
        YamlError::Unexpected { expected: "string scalar", .. } => {
            String::from("a single word or number is expected here")
        }
        YamlError::NullIntoString { .. } => String::from("the value is missing"),
        YamlError::SerdeUnknownField { field, expected, .. } => {
            format!("there is no key {field:?} here; the keys are {}", expected.join(", "))
        }
        YamlError::SerdeMissingField { field, .. } => format!("the key {field:?} is missing"),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => format!("the key {key:?} stands here twice"),
        // The likeliest slip of all: `[*]` or `- *` where every volume group is meant.
        _ if character_at(text, location) == Some('*') => {
            String::from("YAML reads a word that begins with * as a reference; put it in quotes: \"*\"")
        }
        other => UserMessageFormatter.format_message(other).chars().map(without_control).collect(),
    };
    ClassesError::at(location, reason)
}

fn character_at(text: &str, location: Location) -> Option<char> {
    let index = |counted_from_one: u64| usize::try_from(counted_from_one.checked_sub(1)?).ok();
    text.lines().nth(index(location.line())?)?.chars().nth(index(location.column())?)
}

/// The parser quotes what it found; a file must not be able to write control characters into a log or a terminal.
fn without_control(character: char) -> char {
    if character.is_control() { '\u{fffd}' } else { character }
}

#[cfg(test)]
mod tests;
