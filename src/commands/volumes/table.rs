//! The table for people.

use super::{Inventory, Row, State};
use crate::lvm::size::Bytes;

const HEAD: [&str; 8] = ["ID", "CLASS", "SIZE", "CONTENT", "STATE", "GROUP", "CLAIM", "MOUNTED AT"];
const NOTHING: &str = "-";
const GAP: &str = "  ";

/// The table, what is wrong below it, and the sum.
pub(super) fn in_words(inventory: &Inventory) -> String {
    let mut text = String::new();
    if !inventory.rows.is_empty() {
        let mut lines = vec![HEAD.map(String::from)];
        lines.extend(inventory.rows.iter().flat_map(lines_of));
        text.push_str(&aligned(&lines));
    }
    for row in &inventory.rows {
        for problem in &row.problems {
            text.push_str(&format!("{}: {}\n", plain(&row.id), plain(problem)));
        }
    }
    for unseen in &inventory.unseen {
        text.push_str(&format!("{}\n", plain(unseen)));
    }
    text.push_str(&sum(&inventory.rows));
    text
}

/// A volume takes a line for each place where it is mounted, and one at least.
fn lines_of(row: &Row) -> Vec<[String; 8]> {
    let or_nothing = |text: &str| if text.is_empty() { String::from(NOTHING) } else { plain(text) };
    let mut places = row.staged_at.iter().chain(&row.published_at).map(|place| plain(place));
    let first = [
        plain(&row.id),
        or_nothing(&row.class),
        size(row.bytes),
        or_nothing(row.content.as_deref().unwrap_or_default()),
        state(row),
        plain(&row.volume_group),
        or_nothing(row.claim.as_deref().unwrap_or_default()),
        places.next().unwrap_or_else(|| String::from(NOTHING)),
    ];
    let more = places.map(|place| {
        let mut line = [const { String::new() }; 8];
        line[7] = place;
        line
    });
    std::iter::once(first).chain(more).collect()
}

fn state(row: &Row) -> String {
    match row.wipe {
        Some(wipe) => format!("{} (wipe: {wipe})", row.state.word()),
        None => row.state.word().to_owned(),
    }
}

fn aligned(lines: &[[String; 8]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
        text.push('\n');
    }
    text
}

fn sum(rows: &[Row]) -> String {
    let bytes = rows.iter().map(|row| row.bytes).sum();
    let deleting = rows.iter().filter(|row| row.state == State::Deleting).count();
    match (rows.len(), deleting) {
        (0, _) => String::from("no volumes of this driver here\n"),
        (1, 0) => format!("1 volume, {}\n", size(bytes)),
        (count, 0) => format!("{count} volumes, {}\n", size(bytes)),
        (count, deleting) => format!("{count} volumes, {}; {deleting} of them being deleted\n", size(bytes)),
    }
}

/// To the hundredth; whoever needs all digits takes the JSON.
fn size(bytes: u64) -> String {
    let exact = Bytes(bytes).to_string();
    exact.split_once(" (").map_or(exact.clone(), |(rounded, _)| rounded.to_owned())
}

/// Names and paths may hold control characters, which must not reach a terminal.
fn plain(text: &str) -> String {
    let shown = |character: char| {
        if character.is_control() { character.escape_default().to_string() } else { character.to_string() }
    };
    text.chars().map(shown).collect()
}
