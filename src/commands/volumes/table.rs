//! The table for people.

use super::{Inventory, Row, State};
use crate::commands::words::{aligned, plain, size};

const HEAD: [&str; 8] = ["ID", "CLASS", "SIZE", "CONTENT", "STATE", "GROUP", "CLAIM", "MOUNTED AT"];
const NOTHING: &str = "-";

/// The table, what is wrong below it, and the sum.
pub(super) fn in_words(inventory: &Inventory) -> String {
    let mut lines = Vec::new();
    if !inventory.rows.is_empty() {
        let cells = inventory.rows.iter().flat_map(lines_of);
        lines = aligned(&std::iter::once(HEAD.map(String::from)).chain(cells).collect::<Vec<_>>());
    }
    for row in &inventory.rows {
        lines.extend(row.problems.iter().map(|problem| format!("{}: {}", plain(&row.id), plain(problem))));
    }
    lines.extend(inventory.unseen.iter().map(|unseen| plain(unseen)));
    lines.push(sum(&inventory.rows));
    lines.join("\n")
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

fn sum(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::from("no volumes of this driver here\n");
    }
    let bytes = rows.iter().map(|row| row.bytes).sum();
    let noun = if rows.len() == 1 { "volume" } else { "volumes" };
    let deleting = match rows.iter().filter(|row| row.state == State::Deleting).count() {
        0 => String::new(),
        deleting => format!("; being deleted: {deleting}"),
    };
    format!("{} {noun}, {}{deleting}\n", rows.len(), size(bytes))
}
