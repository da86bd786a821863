//! Words for a terminal.

use crate::lvm::size::Bytes;

/// Between two columns.
const GAP: &str = "  ";

/// A size to the hundredth; whoever needs all digits takes the JSON.
pub(super) fn size(bytes: u64) -> String {
    let exact = Bytes(bytes).to_string();
    exact.split_once(" (").map_or(exact.clone(), |(rounded, _)| rounded.to_owned())
}

/// Names and paths may hold control characters, which must not reach a terminal.
pub(super) fn plain(text: &str) -> String {
    let shown = |character: char| {
        if character.is_control() { character.escape_default().to_string() } else { character.to_string() }
    };
    text.chars().map(shown).collect()
}

/// Lines whose cells stand below each other.
pub(super) fn aligned<const COLUMNS: usize>(lines: &[[String; COLUMNS]]) -> Vec<String> {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |line: &[String; COLUMNS]| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_control_characters_shown() {
        assert_eq!(size((1 << 30) + 1), "1 GiB");
        assert_eq!(size(3 << 19), "1.5 MiB");
        assert_eq!(plain("a\n\u{1b}[1mé"), "a\\n\\u{1b}[1mé");
    }
}
