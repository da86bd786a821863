//! The key `thinPool` of a class.

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::classes_file::{ClassesError, value};
use crate::lvm::names::{LOGICAL_VOLUME_NAME_LIMIT, is_legal_logical_volume_name};
use crate::lvm::pool::PoolRules;
use crate::lvm::portion::{Portion, hundredths};
use crate::lvm::size::Bytes;

/// What may be promised, in hundredths.
const OVERCOMMIT: std::ops::RangeInclusive<u64> = 100..=100_000;
/// lvm wants at least this (lvm.conf: `thin_pool_autoextend_threshold`), per cent.
const LEAST_GROW_AT: u64 = 50;
/// Bytes that the kernel allows for a piece: multiples of 64 KiB up to 1 GiB (dm-thin's documentation).
const CHUNK: (u64, u64) = (64 << 10, 1 << 30);
/// Bytes of metadata that lvm allows.
const METADATA: (u64, u64) = (2 << 20, 16 << 30);

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawThinPool {
    name: Option<Spanned<String>>,
    size: Option<Spanned<String>>,
    metadata_size: Option<Spanned<String>>,
    chunk_size: Option<Spanned<String>>,
    overcommit: Option<Spanned<String>>,
    grow_at: Option<Spanned<String>>,
    grow_by: Option<Spanned<String>>,
}

impl RawThinPool {
    /// Judged, what is left out filled in.
    pub(super) fn check(self) -> Result<PoolRules, ClassesError> {
        let defaults = PoolRules::default();
        let name = match self.name {
            Some(name) => pool_name(&name)?,
            None => defaults.name,
        };
        let size = match &self.size {
            Some(text) => pool_size(text)?,
            None => defaults.size,
        };
        let (least, most) = METADATA;
        let metadata_bytes = bytes("metadataSize", self.metadata_size.as_ref(), |bytes| {
            if (least..=most).contains(&bytes) { Ok(()) } else { Err("must be 2 MiB to 16 GiB") }
        })?;
        let (least, most) = CHUNK;
        let chunk_bytes = bytes("chunkSize", self.chunk_size.as_ref(), |bytes| {
            let is_allowed = (least..=most).contains(&bytes) && bytes % least == 0;
            if is_allowed { Ok(()) } else { Err("must be a multiple of 64 KiB, at most 1 GiB") }
        })?;
        let overcommit = match &self.overcommit {
            Some(text) => {
                hundredths(text.value.trim()).filter(|hundredths| OVERCOMMIT.contains(hundredths)).ok_or_else(|| {
                    refusal(
                        text,
                        "overcommit",
                        "is no factor; write 1.0 (never more than there is) to 1000, such as 2.5",
                    )
                })?
            }
            None => defaults.overcommit,
        };
        Ok(PoolRules {
            name,
            size,
            metadata_bytes,
            chunk_bytes,
            overcommit,
            grow_at: percent("growAt", self.grow_at.as_ref(), LEAST_GROW_AT, defaults.grow_at)?,
            grow_by: percent("growBy", self.grow_by.as_ref(), 1, defaults.grow_by)?,
        })
    }
}

/// Why `thinPool` stands in a class of another layout.
pub(super) fn misplaced(location: Location) -> ClassesError {
    ClassesError::at(location, "thinPool: is for `layout: thin` only")
}

fn refusal(text: &Spanned<String>, key: &str, problem: &str) -> ClassesError {
    ClassesError::at(text.referenced, format!("thinPool.{key}: {:?} {problem}", text.value))
}

fn pool_name(name: &Spanned<String>) -> Result<String, ClassesError> {
    let is_usable = is_legal_logical_volume_name(&name.value) && name.value.len() <= LOGICAL_VOLUME_NAME_LIMIT;
    if is_usable { Ok(name.value.clone()) } else { Err(refusal(name, "name", "is no name that lvm takes")) }
}

fn pool_size(text: &Spanned<String>) -> Result<Portion, ClassesError> {
    let size: Portion = value("thinPool.size", text)?;
    if matches!(size, Portion::Share(0) | Portion::Bytes(0)) {
        return Err(refusal(
            text,
            "size",
            "is nothing; write a size, or a share of what the class may use, such as 80%",
        ));
    }
    Ok(size)
}

fn bytes(
    key: &str,
    text: Option<&Spanned<String>>,
    check: impl Fn(u64) -> Result<(), &'static str>,
) -> Result<Option<u64>, ClassesError> {
    let Some(text) = text else { return Ok(None) };
    let Bytes(bytes) = value(&format!("thinPool.{key}"), text)?;
    check(bytes).map_err(|problem| refusal(text, key, problem))?;
    Ok(Some(bytes))
}

/// Whole per cent, from `least` to 100.
fn percent(key: &str, text: Option<&Spanned<String>>, least: u64, default: u8) -> Result<u8, ClassesError> {
    let Some(text) = text else { return Ok(default) };
    let number = text.value.trim().strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
    number
        .filter(|percent| (least..=100).contains(&u64::from(*percent)))
        .ok_or_else(|| refusal(text, key, &format!("is not {least}% to 100%")))
}

#[cfg(test)]
mod tests {
    use super::super::classes::Classes;
    use super::*;
    use crate::lvm::layout::Layout;

    fn rules(thin_pool: &str) -> Result<PoolRules, String> {
        let text = format!("classes:\n- {{name: t, volumeGroups: [vg], layout: thin, thinPool: {thin_pool}}}\n");
        let classes = Classes::parse(&text, |_, _, _| Ok(())).map_err(|error| error.to_string())?;
        let class = classes.class("t").cloned().unwrap();
        assert_eq!(class.layout.word(), "thin");
        match class.layout {
            Layout::Thin(rules) => Ok(rules),
            Layout::Linear => panic!("not thin"),
        }
    }

    #[test]
    fn all_of_it_is_read_and_what_is_left_out_is_sensible() {
        let all =
            "{name: fast, size: 80%, metadataSize: 1GiB, chunkSize: 256KiB, overcommit: 2.5, growAt: 70%, growBy: 10%}";
        let expected = PoolRules {
            name: String::from("fast"),
            size: Portion::Share(8_000),
            metadata_bytes: Some(1 << 30),
            chunk_bytes: Some(256 << 10),
            overcommit: 250,
            grow_at: 70,
            grow_by: 10,
        };
        assert_eq!(rules(all), Ok(expected));
        assert_eq!(rules("{}"), Ok(PoolRules::default()));
        assert_eq!(rules("{size: 100GiB}").map(|rules| rules.size), Ok(Portion::Bytes(100 << 30)));
        assert_eq!(rules("{overcommit: 3}").map(|rules| rules.overcommit), Ok(300));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (written, told) in [
            ("{size: 0}", "thinPool.size"),
            ("{size: 101%}", "thinPool.size"),
            ("{metadataSize: 1MiB}", "thinPool.metadataSize: \"1MiB\" must be 2 MiB to 16 GiB"),
            ("{chunkSize: 100KiB}", "thinPool.chunkSize: \"100KiB\" must be a multiple of 64 KiB"),
            ("{overcommit: 0.5}", "thinPool.overcommit: \"0.5\" is no factor"),
            ("{overcommit: much}", "thinPool.overcommit"),
            ("{growAt: 20%}", "thinPool.growAt: \"20%\" is not 50% to 100%"),
            ("{growAt: 80}", "thinPool.growAt"),
            ("{growBy: 0%}", "thinPool.growBy: \"0%\" is not 1% to 100%"),
            ("{name: a_tmeta}", "thinPool.name: \"a_tmeta\" is no name that lvm takes"),
            ("{colour: red}", "colour"),
        ] {
            let error = rules(written).unwrap_err();
            assert!(error.contains(told), "{written}: {error}");
            assert!(error.starts_with("line 2"), "{error}");
        }
    }
}
