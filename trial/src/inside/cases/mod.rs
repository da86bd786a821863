//! What must hold, by theme.

use super::check::Theme;

/// Writes the list of a theme's cases: a sentence and the function that sees whether it holds.
macro_rules! cases {
    ($($sentence:literal => $function:path),+ $(,)?) => {
        pub(super) fn cases() -> Vec<$crate::inside::check::Case> {
            vec![$($crate::inside::check::Case {
                sentence: $sentence,
                steps: |ground| Box::pin($function(ground)),
            }),+]
        }
    };
}

mod arguments;
mod classes;
mod names;
mod paths;
mod sizes;
mod targets;

/// All themes.
pub fn themes() -> Vec<Theme> {
    let theme = |name, cases| Theme { name, cases };
    vec![
        theme("arguments", arguments::cases()),
        theme("sizes", sizes::cases()),
        theme("names", names::cases()),
        theme("classes", classes::cases()),
        theme("paths", paths::cases()),
        theme("targets", targets::cases()),
    ]
}
