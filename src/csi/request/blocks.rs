//! `GetMetadataAllocatedRequest` and `GetMetadataDeltaRequest`.

use crate::csi::request::text;
use crate::csi::v1;
use crate::error::{Error, Result};

/// Ranges in a message when the request does not say how many.
const USUAL: usize = 1_000;
/// Most ranges in a message: about 1 MiB.
const MOST: usize = 50_000;

/// A checked request for blocks of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlocksOf {
    /// The snapshot that they may differ from; without one all that are allocated are wanted.
    pub base: Option<String>,
    /// The snapshot.
    pub snapshot: String,
    /// The byte from which on they are wanted.
    pub start: u64,
    /// Most ranges in a message.
    pub most: usize,
}

impl BlocksOf {
    /// What a snapshot holds.
    pub fn allocated(request: &v1::GetMetadataAllocatedRequest) -> Result<Self> {
        let snapshot = text::required("snapshot_id", &request.snapshot_id)?;
        text::map("secrets", &request.secrets)?;
        Self::new((None, snapshot), request.starting_offset, request.max_results)
    }

    /// How one differs from another.
    pub fn changed(request: &v1::GetMetadataDeltaRequest) -> Result<Self> {
        let base = text::required("base_snapshot_id", &request.base_snapshot_id)?;
        let target = text::required("target_snapshot_id", &request.target_snapshot_id)?;
        text::map("secrets", &request.secrets)?;
        Self::new((Some(base), target), request.starting_offset, request.max_results)
    }

    fn new((base, snapshot): (Option<&str>, &str), starting_offset: i64, max_results: i32) -> Result<Self> {
        let most = usize::try_from(max_results).map_err(|_| {
            Error::invalid("max_results", format!("{max_results} is negative; 0 leaves the choice to the driver"))
        })?;
        let start = u64::try_from(starting_offset).map_err(|_| Error::OutOfRange {
            field: String::from("starting_offset"),
            problem: format!("{starting_offset} is negative"),
        })?;
        let most = if most == 0 { USUAL } else { most.min(MOST) };
        Ok(Self { base: base.map(str::to_owned), snapshot: snapshot.to_owned(), start, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_negative_is_named() {
        let delta = v1::GetMetadataDeltaRequest {
            base_snapshot_id: String::from("n/snap-1"),
            target_snapshot_id: String::from("n/snap-2"),
            ..v1::GetMetadataDeltaRequest::default()
        };
        let parsed = BlocksOf::changed(&delta).unwrap();
        assert_eq!((parsed.base.as_deref(), parsed.start, parsed.most), (Some("n/snap-1"), 0, USUAL));
        let told = |request: &v1::GetMetadataDeltaRequest| BlocksOf::changed(request).unwrap_err().to_string();
        let (base, target) = (delta.base_snapshot_id.clone(), delta.target_snapshot_id.clone());
        let without = |base: &str, target: &str| v1::GetMetadataDeltaRequest {
            base_snapshot_id: base.to_owned(),
            target_snapshot_id: target.to_owned(),
            ..v1::GetMetadataDeltaRequest::default()
        };
        assert!(told(&without("", &target)).starts_with("base_snapshot_id: is missing"));
        assert!(told(&without(&base, "")).starts_with("target_snapshot_id: is missing"));
        let allocated = |starting_offset, max_results| {
            let snapshot_id = target.clone();
            BlocksOf::allocated(&v1::GetMetadataAllocatedRequest {
                snapshot_id,
                starting_offset,
                max_results,
                ..v1::GetMetadataAllocatedRequest::default()
            })
        };
        assert!(matches!(allocated(-1, 0), Err(Error::OutOfRange { .. })));
        assert!(matches!(allocated(0, -1), Err(Error::InvalidArgument { .. })));
        assert_eq!(allocated(9, i32::MAX).unwrap().most, MOST);
        assert_eq!(allocated(9, 1).unwrap(), BlocksOf { base: None, snapshot: target.clone(), start: 9, most: 1 });
    }
}
