//! What may stand after an option of mkfs or mount. Both allow-lists are tables of these.

use std::fmt;

/// What values an option takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pattern {
    /// None: the option stands alone.
    Nothing,
    /// A whole number within bounds, both included.
    Number(u64, u64),
    /// A whole number with or without a suffix for a unit, as in `64k`.
    Size,
    /// A percentage from 0 to 50, with or without decimals.
    Percentage,
    /// The ids of a user and a group, as in `0:1000`.
    Owner,
    /// A security context of `SELinux`, in double quotes or not.
    SecurityContext,
    /// One of several words.
    OneOf(&'static [&'static str]),
    /// Words, joined by a comma; each may have `^` before it, which switches it off.
    Features(&'static [&'static str]),
    /// Words, joined by a comma.
    List(&'static [&'static str]),
    /// A word and a level after a colon, which may be left out: word, least and most level.
    Levels(&'static [(&'static str, i64, i64)]),
}

/// 0 or 1, as many options take it.
pub(super) const BIT: Pattern = Pattern::OneOf(&["0", "1"]);
/// Any count.
pub(super) const COUNT: Pattern = Pattern::Number(0, u32::MAX as u64);

/// Options by name; a name with several kinds of values stands several times.
pub(super) type Table = &'static [(&'static str, Pattern)];

impl Pattern {
    fn accepts(self, value: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Number(least, most) => number(value).is_some_and(|number| (least..=most).contains(&number)),
            Self::Size => {
                number(value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic())).is_some_and(|_| {
                    let suffix = value.trim_start_matches(|letter: char| letter.is_ascii_digit());
                    suffix.is_empty() || (suffix.len() == 1 && "bskmgKMG".contains(suffix))
                })
            }
            Self::Percentage => {
                let (whole, decimals) = value.split_once('.').unwrap_or((value, "0"));
                decimals.len() <= 3
                    && number(decimals).is_some()
                    && number(whole).is_some_and(|whole| whole < 50 || (whole == 50 && number(decimals) == Some(0)))
            }
            Self::Owner => {
                value.split_once(':').is_some_and(|(user, group)| COUNT.accepts(user) && COUNT.accepts(group))
            }
            Self::SecurityContext => is_security_context(value),
            Self::OneOf(words) => words.contains(&value),
            Self::Features(words) => {
                value.split(',').all(|word| words.contains(&word.strip_prefix('^').unwrap_or(word)))
            }
            Self::List(words) => value.split(',').all(|word| words.contains(&word)),
            Self::Levels(words) => {
                let (word, level) = value.split_once(':').map_or((value, None), |(word, level)| (word, Some(level)));
                words.iter().any(|(name, least, most)| {
                    *name == word && level.is_none_or(|level| is_level(level, *least, *most))
                })
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("no value"),
            Self::Number(least, most) => write!(formatter, "a number from {least} to {most}"),
            Self::Size => formatter.write_str("a size like 4096 or 64k"),
            Self::Percentage => formatter.write_str("a percentage from 0 to 50"),
            Self::Owner => formatter.write_str("the ids of a user and a group like 0:1000"),
            Self::SecurityContext => formatter.write_str("an SELinux context, in double quotes if it has a comma"),
            Self::OneOf(words) => write!(formatter, "one of {}", words.join(", ")),
            Self::Features(words) => {
                write!(formatter, "a list, joined by commas, of (with ^ to switch off) {}", words.join(", "))
            }
            Self::List(words) => write!(formatter, "a list, joined by commas, of {}", words.join(", ")),
            Self::Levels(words) => {
                let words: Vec<String> = words
                    .iter()
                    .map(|(name, least, most)| match (least, most) {
                        (0, 0) => (*name).to_owned(),
                        (least, most) => format!("{name}[:{least}..{most}]"),
                    })
                    .collect();
                write!(formatter, "one of {}", words.join(", "))
            }
        }
    }
}

/// Checks `name` or `name=value` against a table. The message for a wrong one starts with what is wrong
/// and ends with what is right.
pub(super) fn check_pair(pair: &str, table: Table) -> Result<(), String> {
    let (name, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
    let patterns: Vec<Pattern> =
        table.iter().filter(|(known, _)| *known == name).map(|(_, pattern)| *pattern).collect();
    if patterns.is_empty() {
        return Err(format!("{name:?} is not allowed; allowed are {}", names(table)));
    }
    if patterns.iter().any(|pattern| fits(*pattern, value)) {
        return Ok(());
    }
    let right: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    Err(format!("{pair:?} has no right value; {name} takes {}", right.join(", or ")))
}

/// Whether a value, or its absence, is what the pattern wants.
pub(super) fn fits(pattern: Pattern, value: Option<&str>) -> bool {
    match value {
        None => matches!(pattern, Pattern::Nothing),
        Some(value) => pattern.accepts(value),
    }
}

/// The names of a table, each once, for a message.
pub(super) fn names(table: Table) -> String {
    let mut names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    names.dedup();
    names.join(", ")
}

/// Digits only: `parse` alone would let "+5" pass.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn is_level(text: &str, least: i64, most: i64) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    number(digits).is_some() && text.parse().is_ok_and(|level: i64| level != 0 && (least..=most).contains(&level))
}

fn is_security_context(value: &str) -> bool {
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let context = quoted.unwrap_or(value);
    // An unquoted comma would end the option for the kernel.
    let comma_allowed = quoted.is_some();
    let is_right =
        |letter: char| letter.is_ascii_alphanumeric() || "_.:-".contains(letter) || (comma_allowed && letter == ',');
    context.split(':').take_while(|part| !part.is_empty()).count() >= 3 && context.chars().all(is_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pattern: Pattern, right: &[&str], wrong: &[&str]) {
        for value in right {
            assert!(pattern.accepts(value), "{value:?} is {pattern}");
        }
        for value in wrong {
            assert!(!pattern.accepts(value), "{value:?} is not {pattern}");
        }
    }

    #[test]
    fn each_pattern_takes_its_values_only() {
        all(Pattern::Nothing, &[], &["", "1"]);
        all(Pattern::Number(1, 10), &["1", "10"], &["0", "11", "+5", "-1", "", "1k", "99999999999999999999"]);
        all(Pattern::Size, &["4096", "64k", "1g", "8b"], &["", "k", "64kb", "-1", "6 4", "64/", "/dev/sda"]);
        all(Pattern::Percentage, &["0", "1.5", "50", "50.0"], &["", "51", "50.1", "-1", "1.", "1.2345", "a"]);
        all(Pattern::Owner, &["0:0", "1000:2000"], &["0", "a:b", "0:0:0", ":"]);
        all(BIT, &["0", "1"], &["2", "", "yes"]);
        all(Pattern::Features(&["a", "b"]), &["a", "^a,b"], &["", "a,", "c", "^^a"]);
        all(Pattern::List(&["a", "b"]), &["a", "a,b"], &["", "^a", "a,,b"]);
        all(
            Pattern::Levels(&[("zstd", -15, 15), ("lzo", 0, 0)]),
            &["zstd", "zstd:3", "zstd:-1", "lzo"],
            &["zstd:16", "zstd:", "zstd:0", "zstd:x", "lzo:1", "gzip"],
        );
    }

    #[test]
    fn a_security_context_may_have_a_comma_in_quotes_only() {
        all(
            Pattern::SecurityContext,
            &["system_u:object_r:container_file_t:s0", "\"system_u:object_r:container_file_t:s0:c1,c2\""],
            &["a:b:c:c1,c2", "\"a:b:c", "a:b", "", "\"\"", "a:b:c\"", "a:b:c d", "::::"],
        );
    }

    #[test]
    fn a_message_says_what_is_right() {
        let table: Table = &[("commit", COUNT), ("discard", Pattern::Nothing), ("discard", BIT)];
        assert_eq!(check_pair("discard", table), Ok(()));
        assert_eq!(check_pair("discard=1", table), Ok(()));
        assert_eq!(
            check_pair("discard=2", table).unwrap_err(),
            "\"discard=2\" has no right value; discard takes no value, or one of 0, 1"
        );
        assert_eq!(check_pair("x=/dev/sda", table).unwrap_err(), "\"x\" is not allowed; allowed are commit, discard");
    }
}
