//! What `thin_dump` and `thin_delta` print of a thin volume's mappings (their pages in section 8): which pieces of it its pool
//! holds data for, or which of them differ from those of another. One element a line.

use std::ops::Range;

/// Reads it line by line. Ranges are of the pool's pieces, in ascending order.
#[derive(Debug, Default)]
pub struct Mappings {
    /// Where the last range ended.
    end: u64,
    /// Whether what was asked for is in it.
    is_there: bool,
    is_whole: bool,
}

impl Mappings {
    /// Takes the next line; gives the range in it to `found`.
    pub fn line(&mut self, line: &str, found: &mut impl FnMut(Range<u64>)) -> Result<(), String> {
        let line = line.trim();
        let element = line.strip_prefix('<').and_then(|rest| rest.split([' ', '>']).next()).unwrap_or_default();
        let (begin, length) = match element {
            "device" | "diff" => {
                self.is_there = true;
                return Ok(());
            }
            "/superblock" => {
                self.is_whole = true;
                return Ok(());
            }
            // Mappings that both of a difference share.
            "same" | "superblock" | "/device" | "/diff" | "" => return Ok(()),
            "single_mapping" => (attribute(line, "origin_block"), Some(1)),
            "range_mapping" => (attribute(line, "origin_begin"), attribute(line, "length")),
            // What only the older one has was discarded since.
            "different" | "left_only" | "right_only" => (attribute(line, "begin"), attribute(line, "length")),
            _ => return Err(format!("an element that is not known: {line}")),
        };
        let range = begin.zip(length).and_then(|(begin, length)| Some(begin..begin.checked_add(length)?));
        let range = range.ok_or_else(|| format!("an element that is not understood: {line}"))?;
        if range.start < self.end {
            return Err(format!("a range at {} after one to {}", range.start, self.end));
        }
        self.end = range.end;
        found(range);
        Ok(())
    }

    /// A text that is not whole, or that holds nothing of what was asked for, is refused.
    pub fn end(self) -> Result<(), String> {
        if !self.is_there {
            return Err(String::from("the pool has no such volume"));
        }
        if self.is_whole { Ok(()) } else { Err(String::from("it breaks off")) }
    }
}

fn attribute(line: &str, name: &str) -> Option<u64> {
    let (_, value) = line.split_once(&format!(" {name}=\""))?;
    value.split_once('"')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As thin-provisioning-tools 1.1.0 print it.
    const DUMP: &str = r#"<superblock uuid="" time="2" transaction="3" version="2" data_block_size="128" nr_data_blocks="0">
  <device dev_id="3" mapped_blocks="146" transaction="2" creation_time="2" snap_time="2">
    <range_mapping origin_begin="0" data_begin="0" length="5" time="0"/>
    <range_mapping origin_begin="5" data_begin="160" length="2" time="1"/>
    <single_mapping origin_block="7" data_block="7" time="0"/>
    <range_mapping origin_begin="32" data_begin="32" length="128" time="0"/>
    <single_mapping origin_block="800" data_block="162" time="1"/>
  </device>
</superblock>"#;

    const DELTA: &str = r#"<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="0">
  <diff left="2" right="3">
    <same begin="0" length="5"/>
    <different begin="5" length="2"/>
    <same begin="7" length="9"/>
    <left_only begin="16" length="16"/>
    <right_only begin="32" length="2"/>
    <same begin="34" length="126"/>
    <right_only begin="800" length="2"/>
  </diff>
</superblock>"#;

    fn read(text: &str) -> Result<Vec<Range<u64>>, String> {
        let (mut mappings, mut ranges) = (Mappings::default(), Vec::new());
        for line in text.lines() {
            mappings.line(line, &mut |range| ranges.push(range))?;
        }
        mappings.end()?;
        Ok(ranges)
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(read(DUMP).unwrap(), [0..5, 5..7, 7..8, 32..160, 800..801]);
        assert_eq!(read(DELTA).unwrap(), [5..7, 16..32, 32..34, 800..802]);
    }

    #[test]
    fn a_volume_without_data_has_no_ranges_and_one_that_is_not_there_is_refused() {
        let empty = DUMP.lines().filter(|line| !line.contains("_mapping")).collect::<Vec<_>>().join("\n");
        assert_eq!(read(&empty).unwrap(), [0..0; 0]);
        let missing = empty.lines().filter(|line| !line.contains("device")).collect::<Vec<_>>().join("\n");
        assert!(read(&missing).unwrap_err().contains("no such volume"));
    }

    #[test]
    fn what_breaks_off_or_is_not_understood_is_refused() {
        assert!(read(DUMP.strip_suffix("</superblock>").unwrap()).unwrap_err().contains("breaks off"));
        assert!(read(&DUMP[..DUMP.len() - 5]).is_err());
        for (from, to) in [
            ("origin_begin=\"32\"", "origin_begin=\"x\""),
            ("origin_begin=\"32\"", "origin_begin=\"6\""),
            ("length=\"128\"", "length=\"18446744073709551615\""),
            // Mappings that stand elsewhere.
            ("<single_mapping origin_block=\"7\" data_block=\"7\" time=\"0\"/>", "<ref name=\"42\"/>"),
        ] {
            assert!(read(&DUMP.replace(from, to)).is_err(), "{to}");
        }
    }
}
