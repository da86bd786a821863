//! Capacity ranges.

use crate::csi::v1;
use crate::error::{Error, Result};

/// Sizes that a caller would accept, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SizeRange {
    /// At least this; `None` leaves it to the driver.
    pub required: Option<u64>,
    /// At most this.
    pub limit: Option<u64>,
}

impl SizeRange {
    /// Checks a range for itself; whether it can be had is not known here.
    pub fn parse(range: Option<&v1::CapacityRange>) -> Result<Self> {
        let Some(range) = range else { return Ok(Self::default()) };
        let parsed = Self {
            required: bytes("capacity_range.required_bytes", range.required_bytes)?,
            limit: bytes("capacity_range.limit_bytes", range.limit_bytes)?,
        };
        if let Self { required: Some(required), limit: Some(limit) } = parsed
            && required > limit
        {
            return Err(out_of_range(
                "capacity_range",
                format!("required_bytes {required} is more than limit_bytes {limit}"),
            ));
        }
        Ok(parsed)
    }

    /// Whether a volume of that size is what the caller asked for.
    pub fn accepts(&self, bytes: u64) -> bool {
        self.required.is_none_or(|required| bytes >= required) && self.limit.is_none_or(|limit| bytes <= limit)
    }

    /// The extents of a volume for this range: `required`, else `default`, rounded up to whole extents.
    pub fn extents(&self, default: u64, extent_bytes: u64) -> Result<u64> {
        let wanted = self.required.unwrap_or_else(|| self.limit.map_or(default, |limit| limit.min(default)));
        let extents = wanted.div_ceil(extent_bytes).max(1);
        let rounded =
            extents.checked_mul(extent_bytes).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(|| {
                out_of_range("capacity_range.required_bytes", format!("{wanted} bytes is beyond any volume group"))
            })?;
        match self.limit {
            // Without a required size, what fits below the limit will do.
            Some(limit) if rounded > limit && self.required.is_none() && limit >= extent_bytes => {
                Ok(limit / extent_bytes)
            }
            Some(limit) if rounded > limit => Err(out_of_range(
                "capacity_range.limit_bytes",
                format!(
                    "{limit} is less than {rounded} bytes, the request rounded up to whole extents of {extent_bytes} bytes"
                ),
            )),
            _ => Ok(extents),
        }
    }
}

fn bytes(field: &str, value: i64) -> Result<Option<u64>> {
    match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(out_of_range(field, format!("{value} is negative"))),
    }
}

fn out_of_range(field: &str, problem: String) -> Error {
    Error::OutOfRange { field: field.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXTENT: u64 = 4 << 20;

    fn range(required: i64, limit: i64) -> Result<SizeRange> {
        SizeRange::parse(Some(&v1::CapacityRange { required_bytes: required, limit_bytes: limit }))
    }

    #[test]
    fn contradictory_and_negative_ranges_are_refused() {
        assert!(range(-1, 0).is_err());
        assert!(range(0, -1).is_err());
        assert!(range(2, 1).is_err());
        assert_eq!(range(0, 0).unwrap(), SizeRange::default());
    }

    #[test]
    fn a_byte_around_an_extent_rounds_up_but_never_beyond_the_limit() {
        let extent = i64::try_from(EXTENT).unwrap();
        assert_eq!(range(extent - 1, 0).unwrap().extents(1, EXTENT).unwrap(), 1);
        assert_eq!(range(extent, 0).unwrap().extents(1, EXTENT).unwrap(), 1);
        assert_eq!(range(extent + 1, 0).unwrap().extents(1, EXTENT).unwrap(), 2);
        assert!(range(extent + 1, extent + 2).unwrap().extents(1, EXTENT).is_err());
        assert!(range(0, extent - 1).unwrap().extents(1, EXTENT).is_err());
        assert_eq!(range(0, 3 * extent + 5).unwrap().extents(100 * EXTENT, EXTENT).unwrap(), 3);
        assert!(range(i64::MAX, 0).unwrap().extents(1, EXTENT).is_err());
    }

    proptest! {
        #[test]
        fn what_is_given_is_what_was_asked(required in 0i64.., limit in 0i64.., default in 1u64..1 << 50) {
            if let Ok(range) = range(required, limit)
                && let Ok(extents) = range.extents(default, EXTENT)
            {
                prop_assert!(range.accepts(extents * EXTENT));
            }
        }
    }
}
