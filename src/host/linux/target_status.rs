//! The live state of thin pools and of thick snapshots: `DM_TABLE_STATUS`, whose texts the kernel's thin-provisioning.rst and
//! snapshot.rst describe.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::libc;

use super::super::kernel::{PoolMode, PoolStatus, SnapshotStatus};
use super::device_mapper::{Request, ask, data_start, has_more, nonsense, open, text_at};

const TABLE_STATUS: u8 = 12;
/// The table itself instead of the state.
const TABLE: u32 = 1 << 4;
/// Without it the pool would first commit what it has in memory, with a flush of the disk.
const NO_FLUSH: u32 = 1 << 11;
/// Bytes of `struct dm_target_spec`, behind which the text stands.
const TARGET: usize = 40;
/// Where in it the type's name stands, and how long that may be.
const TYPE: (usize, usize) = (24, 16);
/// Room for the answer: one target and its text.
const BUFFER: usize = 2 << 10;

/// What the pool of that UUID says of itself; nothing when it is not active.
pub(super) fn pool(control: &Path, uuid: &str) -> io::Result<Option<PoolStatus>> {
    let Some(control) = open(control)? else { return Ok(None) };
    let (state, table) = (text(&control, uuid, "thin-pool", 0)?, text(&control, uuid, "thin-pool", TABLE)?);
    let parsed = state.zip(table).map(|(state, table)| parse_pool(&state, &table).ok_or_else(nonsense));
    parsed.transpose()
}

/// What the thick snapshot of that UUID says of itself; nothing when it is not active.
pub(super) fn snapshot(control: &Path, uuid: &str) -> io::Result<Option<SnapshotStatus>> {
    let Some(control) = open(control)? else { return Ok(None) };
    let text = text(&control, uuid, "snapshot", 0)?;
    text.map(|text| parse_snapshot(&text).ok_or_else(nonsense)).transpose()
}

/// The text of the device of that UUID, if it has one target and that is of this type.
fn text(control: &File, uuid: &str, target: &str, flags: u32) -> io::Result<Option<String>> {
    let request = Request { flags: NO_FLUSH | flags, uuid, ..Request::default() };
    match ask(control, TABLE_STATUS, request, BUFFER) {
        Ok(answer) => told(&answer, target),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

fn told(answer: &[u8], target: &str) -> io::Result<Option<String>> {
    if has_more(answer)? {
        return Err(nonsense());
    }
    let at = data_start(answer)?;
    let (type_at, type_size) = TYPE;
    let is_it = text_at(answer, at + type_at, type_size)? == target;
    if is_it { text_at(answer, at + TARGET, BUFFER).map(Some) } else { Ok(None) }
}

/// `<sectors in use>/<all> <of them metadata>`, or a word on why it is lost.
fn parse_snapshot(text: &str) -> Option<SnapshotStatus> {
    let Some((used, total)) = text.split_whitespace().next()?.split_once('/') else {
        return Some(SnapshotStatus::Lost);
    };
    Some(SnapshotStatus::Kept { used_sectors: used.parse().ok()?, total_sectors: total.parse().ok()? })
}

/// `<metadata device> <data device> <sectors of a piece> <low-water mark> …`
fn low_water(table: &str) -> Option<u64> {
    table.split_whitespace().nth(3)?.parse().ok()
}

/// `<transaction id> <used>/<total metadata blocks> <used>/<total data blocks> <held metadata root> ro|rw|out_of_data_space
/// [no_]discard_passdown … <needs_check>|- …`, or the one word of a pool that has failed.
fn parse_pool(state: &str, table: &str) -> Option<PoolStatus> {
    let failed = PoolStatus {
        mode: PoolMode::Failed,
        needs_check: false,
        transaction_id: 0,
        low_water: 0,
        used_data: 0,
        total_data: 0,
        used_metadata: 0,
        total_metadata: 0,
        metadata_snapshot: None,
    };
    let words: Vec<&str> = state.split_whitespace().collect();
    let [transaction_id, metadata, data, held, mode, ref rest @ ..] = words[..] else {
        return matches!(words[..], ["Fail" | "Error"]).then_some(failed);
    };
    let pair = |text: &str| {
        let (used, total) = text.split_once('/')?;
        Some((used.parse().ok()?, total.parse().ok()?))
    };
    let ((used_metadata, total_metadata), (used_data, total_data)) = (pair(metadata)?, pair(data)?);
    let metadata_snapshot = if held == "-" { None } else { Some(held.parse().ok()?) };
    Some(PoolStatus {
        mode: match mode {
            "rw" => PoolMode::Writable,
            "out_of_data_space" => PoolMode::OutOfDataSpace,
            "ro" => PoolMode::ReadOnly,
            _ => return None,
        },
        needs_check: rest.contains(&"needs_check"),
        transaction_id: transaction_id.parse().ok()?,
        low_water: low_water(table)?,
        used_data,
        total_data,
        used_metadata,
        total_metadata,
        metadata_snapshot,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE_TEXT: &str = "252:0 252:1 128 1280 1 error_if_no_space";

    #[test]
    fn the_text_of_a_pool_is_understood() {
        let sound =
            parse_pool("2 116/1024 342/6400 - rw no_discard_passdown error_if_no_space - 256 ", TABLE_TEXT).unwrap();
        let expected = PoolStatus {
            mode: PoolMode::Writable,
            needs_check: false,
            transaction_id: 2,
            low_water: 1280,
            used_data: 342,
            total_data: 6400,
            used_metadata: 116,
            total_metadata: 1024,
            metadata_snapshot: None,
        };
        assert_eq!(sound, expected);
        let broken =
            parse_pool("7 1024/1024 1/2 - ro discard_passdown error_if_no_space needs_check 256", TABLE_TEXT).unwrap();
        assert_eq!((broken.mode, broken.needs_check), (PoolMode::ReadOnly, true));
        let full = parse_pool("7 1/1024 2/2 99 out_of_data_space discard_passdown error_if_no_space - 256", TABLE_TEXT)
            .unwrap();
        assert_eq!((full.mode, full.metadata_snapshot), (PoolMode::OutOfDataSpace, Some(99)));
        assert_eq!(parse_pool("Fail", TABLE_TEXT).unwrap().mode, PoolMode::Failed);
        for text in ["", "1", "a 1/2 3/4 - rw", "1 1 3/4 - rw", "1 1/2 3/4 - new_mode", "1 1/2 3/4 held rw"] {
            assert_eq!(parse_pool(text, TABLE_TEXT), None, "{text}");
        }
    }

    #[test]
    fn the_mark_of_a_pool_is_in_its_table() {
        assert_eq!(low_water(TABLE_TEXT), Some(1280));
        assert_eq!((low_water("252:0 252:1 128"), low_water("a b c d")), (None, None));
    }

    #[test]
    fn the_text_of_a_snapshot_is_understood() {
        let kept = SnapshotStatus::Kept { used_sectors: 16, total_sectors: 40_960 };
        assert_eq!(parse_snapshot("16/40960 16"), Some(kept));
        for word in ["Invalid", "Overflow", "Merge failed"] {
            assert_eq!(parse_snapshot(word), Some(SnapshotStatus::Lost), "{word}");
        }
        assert_eq!((parse_snapshot(""), parse_snapshot("a/b 1")), (None, None));
    }

    #[test]
    fn without_device_mapper_there_is_nothing() {
        assert_eq!(pool(Path::new("/nonexistent/control"), "LVM-x-tpool").unwrap(), None);
        assert_eq!(snapshot(Path::new("/nonexistent/control"), "LVM-x").unwrap(), None);
    }
}
