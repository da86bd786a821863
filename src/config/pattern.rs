//! Names of volume groups with wildcards: `*` for any characters, `?` for one, `[a-f0-9]` and `[!a-f]` for
//! one out of a set.

use std::fmt;
use std::str::FromStr;

/// A name or a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    One(Characters),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Characters {
    All,
    Exactly(u8),
    Set { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Characters {
    fn contain(&self, byte: u8) -> bool {
        match self {
            Self::All => true,
            Self::Exactly(wanted) => *wanted == byte,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *negated
            }
        }
    }
}

impl Pattern {
    /// Whether it has wildcards, so that it may well match nothing.
    pub fn is_glob(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::One(Characters::Exactly(_))))
    }

    /// Whether a volume group of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let (mut part, mut byte) = (0, 0);
        // Where to go on when a match fails: behind the last `*`, which then takes one byte more. Going back to
        // earlier ones cannot help, so the time is bounded by the product of the lengths.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match self.parts.get(part) {
                Some(Part::Any) => {
                    retry = Some((part + 1, byte));
                    part += 1;
                    continue;
                }
                Some(Part::One(characters)) if name.get(byte).is_some_and(|byte| characters.contain(*byte)) => {
                    part += 1;
                    byte += 1;
                    continue;
                }
                None if byte == name.len() => return true,
                Some(Part::One(_)) | None => {}
            }
            match retry {
                Some((after_any, start)) if start < name.len() => {
                    retry = Some((after_any, start + 1));
                    part = after_any;
                    byte = start + 1;
                }
                _ => return false,
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(String::from("a volume group's name must not be empty"));
        }
        let mut parts = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            parts.push(match first {
                b'*' => Part::Any,
                b'?' => Part::One(Characters::All),
                b'[' => {
                    let (set, after) = character_set(text, rest)?;
                    rest = after;
                    Part::One(set)
                }
                byte if is_legal(*byte) => Part::One(Characters::Exactly(*byte)),
                _ => return Err(illegal_character(text)),
            });
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

/// The set whose `[` was just read, and what follows its `]`.
fn character_set<'a>(text: &str, inside: &'a [u8]) -> Result<(Characters, &'a [u8]), String> {
    let (negated, inside) = match inside {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let end = inside.iter().position(|byte| *byte == b']').ok_or_else(|| format!("{text:?}: a [ without its ]"))?;
    let (mut members, after) = (&inside[..end], &inside[end + 1..]);
    if members.is_empty() {
        return Err(format!("{text:?}: [] with nothing in it"));
    }
    let mut ranges = Vec::new();
    while let [low, rest @ ..] = members {
        let (high, rest) = match rest {
            [b'-', high, rest @ ..] => (high, rest),
            rest => (low, rest),
        };
        if !is_legal(*low) || !is_legal(*high) {
            return Err(illegal_character(text));
        }
        if low > high {
            return Err(format!("{text:?}: the range {}-{} runs backwards", char::from(*low), char::from(*high)));
        }
        ranges.push((*low, *high));
        members = rest;
    }
    Ok((Characters::Set { negated, ranges }, after))
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_' | b'.' | b'-')
}

fn illegal_character(text: &str) -> String {
    format!("{text:?} can match no volume group: their names, without /dev/, consist of letters, digits and +_.-")
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, matching, others) in [
            ("data", &["data"][..], &["", "dat", "data1", "xdata", "Data"][..]),
            ("nvme-*", &["nvme-", "nvme-0", "nvme-a-b"], &["nvme", "xnvme-0"]),
            ("*", &["a", "anything-at.all"], &[]),
            ("*-fast-*", &["a-fast-b", "-fast-", "a-fast-fast-b"], &["a-fast", "fast-b"]),
            ("vg?", &["vg0", "vgx"], &["vg", "vg10"]),
            ("vg[0-9a]", &["vg0", "vg9", "vga"], &["vgb", "vg", "vg00"]),
            ("vg[!0-9]", &["vga"], &["vg0", "vg"]),
            ("vg[a-]", &["vga", "vg-"], &["vgb"]),
            ("**a*b", &["ab", "xaxb"], &["ba"]),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.to_string(), pattern);
            for name in matching {
                assert!(parsed.matches(name), "{pattern} {name}");
            }
            for name in others {
                assert!(!parsed.matches(name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn what_can_match_no_volume_group_is_refused() {
        for text in ["", "/dev/vg", "vg/lv", "a b", "vg[", "vg[]", "vg[!]", "vg[9-0]", "vg[a/]", "]", "ä", "{a,b}"] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern: Pattern = format!("{}b", "a*".repeat(60)).parse().unwrap();
        assert!(!pattern.matches(&"a".repeat(127)));
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_and_its_prefix_with_a_star(name in "[a-zA-Z0-9+_.-]{1,40}", cut in 0_usize..40) {
            prop_assert!(name.parse::<Pattern>().unwrap().matches(&name));
            let start = &name[..cut.min(name.len())];
            let pattern: Pattern = format!("{start}*").parse().unwrap();
            prop_assert!(pattern.matches(&name));
        }

        #[test]
        fn no_text_makes_the_parser_or_the_matcher_panic(text in "[a-c*?\\[\\]!-]{0,12}|\\PC{0,12}", name in "[a-c-]{0,12}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                let _ = pattern.matches(&name);
            }
        }
    }
}
