//! Strings, maps and paths of requests.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Longest id or name, bytes (CSI specification, size limits).
pub const STRING_LIMIT: usize = 128;
/// Largest map, bytes of all keys and values.
pub const MAP_LIMIT: usize = 4 << 10;
/// Longest path the kernel takes, bytes, without the closing NUL.
pub const PATH_LIMIT: usize = 4_095;

/// A string that must be there and keep to the limit.
pub fn required<'a>(field: &str, value: &'a str) -> Result<&'a str> {
    if value.is_empty() {
        return Err(Error::invalid(field, "is missing"));
    }
    if value.len() > STRING_LIMIT {
        return Err(Error::invalid(field, format!("has {} bytes; at most {STRING_LIMIT} are allowed", value.len())));
    }
    Ok(value)
}

/// A map that keeps to the limit.
pub fn map(field: &str, map: &HashMap<String, String, impl BuildHasher>) -> Result<()> {
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAP_LIMIT {
        return Err(Error::invalid(field, format!("has {bytes} bytes in all; at most {MAP_LIMIT} are allowed")));
    }
    Ok(())
}

/// A path that must be there, absolute and plain: what the kernel would resolve must be what was written.
pub fn path(field: &str, value: &str) -> Result<PathBuf> {
    if value.is_empty() {
        return Err(Error::invalid(field, "is missing"));
    }
    if value.len() > PATH_LIMIT {
        return Err(Error::invalid(field, format!("has {} bytes; at most {PATH_LIMIT} are allowed", value.len())));
    }
    if value.contains('\0') {
        return Err(Error::invalid(field, "contains a NUL character"));
    }
    let path = Path::new(value);
    if !path.is_absolute() {
        return Err(Error::invalid(field, format!("{value:?} is relative; it must start with /")));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(Error::invalid(field, format!("{value:?} contains `..`; write the path without it")));
    }
    // Components, not the text, so that a closing or doubled slash does not make two paths of one.
    let plain: PathBuf = path.components().collect();
    if plain == Path::new("/") {
        return Err(Error::invalid(field, "is the root folder; nothing can be mounted there"));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_only_when_it_is_absolute_and_plain() {
        for bad in ["", "some/path", "/a/../b", "/", "//", "/a\0b", &format!("/{}", "a".repeat(PATH_LIMIT))] {
            assert!(path("target_path", bad).is_err(), "{bad:?}");
        }
        for good in ["/a", "/a b\nc", "/a/./b//c/", &format!("/{}", "a/".repeat(2_047))] {
            assert!(path("target_path", good).is_ok(), "{good:?}");
        }
        assert_eq!(path("target_path", "/a/./b//c/").unwrap(), Path::new("/a/b/c"));
    }

    #[test]
    fn strings_and_maps_over_their_limits_are_refused_not_cut() {
        assert!(required("name", &"n".repeat(128)).is_ok());
        let message = required("name", &"n".repeat(129)).unwrap_err().to_string();
        assert_eq!(message, "name: has 129 bytes; at most 128 are allowed");
        assert_eq!(required("name", "").unwrap_err().to_string(), "name: is missing");
        let large = HashMap::from([(String::from("k"), "v".repeat(5_000))]);
        assert!(map("parameters", &large).is_err());
    }
}
