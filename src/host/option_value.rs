//! What a value in a list of options may look like. Pure; shared by mount options and mkfs options.

use std::fmt;

/// The shape of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// A whole number in a range.
    Number(u64, u64),
    /// A number of bytes, with `k`, `m`, `g` or `t` after it if wanted.
    Size,
    /// A percentage, with decimals if wanted, up to this.
    Percentage(f64),
    /// One of these words.
    Words(&'static [&'static str]),
    /// Any of these words with commas in between; `^` before one turns it off.
    Features(&'static [&'static str]),
    /// A compression method, with a level after a colon if wanted.
    Compression,
    /// An `SELinux` label, in double quotes when it has a comma.
    Label,
}

/// 0 or 1.
pub(super) const SWITCH: Shape = Shape::Number(0, 1);

impl Shape {
    /// Whether `value` has this shape.
    pub(super) fn fits(self, value: &str) -> bool {
        match self {
            Self::Number(least, most) => number(value).is_some_and(|number| (least..=most).contains(&number)),
            Self::Size => {
                let digits = value.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T']).unwrap_or(value);
                number(digits).is_some_and(|number| number > 0)
            }
            Self::Percentage(most) => {
                value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
                    && value.parse::<f64>().is_ok_and(|percentage| percentage <= most)
            }
            Self::Words(words) => words.contains(&value),
            Self::Features(words) => {
                value.split(',').all(|word| words.contains(&word.strip_prefix('^').unwrap_or(word)))
            }
            Self::Compression => {
                let (method, level) =
                    value.split_once(':').map_or((value, None), |(method, level)| (method, Some(level)));
                let most = match method {
                    "zlib" => 9,
                    "zstd" => 15,
                    "lzo" | "no" | "none" => 0,
                    _ => return false,
                };
                level.is_none_or(|level| number(level).is_some_and(|level| (1..=most).contains(&level)))
            }
            Self::Label => is_label(value),
        }
    }
}

/// Digits only: `parse` alone would take a plus sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn is_label(value: &str) -> bool {
    let plain = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let label = plain.unwrap_or(value);
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte) || (byte == b',' && plain.is_some());
    label.contains(':') && label.bytes().all(allowed)
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(least, u64::MAX) => write!(formatter, "a number from {least}"),
            Self::Number(least, most) => write!(formatter, "a number from {least} to {most}"),
            Self::Size => write!(formatter, "bytes, such as 4096, 64k or 1g"),
            Self::Percentage(most) => write!(formatter, "a percentage up to {most}"),
            Self::Words(words) => write!(formatter, "one of {}", words.join(", ")),
            Self::Features(words) => {
                write!(formatter, "a list of {}, each with ^ before it to turn it off", words.join(", "))
            }
            Self::Compression => write!(formatter, "zlib, zlib:1-9, lzo, zstd, zstd:1-15 or no"),
            Self::Label => write!(formatter, "an SELinux label, in double quotes if it has a comma"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_right_shape_fit() {
        let label = r#""system_u:object_r:container_file_t:s0:c1,c2""#;
        let fitting = [
            (Shape::Number(1, 8), vec!["1", "8", "08"]),
            (Shape::Size, vec!["4096", "64k", "1G"]),
            (Shape::Percentage(50.0), vec!["0", "0.5", "50"]),
            (Shape::Words(&["dup", "single"]), vec!["dup"]),
            (Shape::Features(&["quota", "verity"]), vec!["quota", "^quota,verity"]),
            (Shape::Compression, vec!["zstd", "zstd:15", "lzo", "zlib:9", "no"]),
            (Shape::Label, vec!["system_u:object_r:t:s0", label]),
        ];
        for (shape, values) in fitting {
            for value in values {
                assert!(shape.fits(value), "{value} should be {shape}");
            }
        }
    }

    #[test]
    fn values_of_another_shape_do_not_fit() {
        let wrong = [
            (Shape::Number(1, 8), vec!["", "0", "9", "+1", "-1", "1 ", "99999999999999999999"]),
            (Shape::Size, vec!["", "k", "0", "1kb", "-1", "1.5g", "/dev/sda"]),
            (Shape::Percentage(50.0), vec!["", "51", "-1", "nan", "1e1", "inf", "+1"]),
            (Shape::Words(&["dup", "single"]), vec!["", "raid1", "dup,single"]),
            (Shape::Features(&["quota", "verity"]), vec!["", "^", "^^quota", "quota,", "journal_dev"]),
            (Shape::Compression, vec!["", "zstd:16", "zstd:", "lzo:1", "gzip"]),
            (Shape::Label, vec!["", "x", "a:b,c", "\"a:b", "a:b\",x", "a:b\"", "a:\n", "\"\""]),
        ];
        for (shape, values) in wrong {
            for value in values {
                assert!(!shape.fits(value), "{value:?} should not be {shape}");
            }
        }
    }
}
