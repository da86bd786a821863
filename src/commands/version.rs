//! `quarry version`.

use std::io::{self, Write};

use serde_json::json;

use crate::config::flags::OutputFormat;

/// The version of this driver.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of the CSI specification that it speaks.
pub const CSI_VERSION: &str = "1.13.0";

/// Writes which version this is.
pub fn run(output: OutputFormat, out: &mut impl Write) -> io::Result<()> {
    match output {
        OutputFormat::Text => writeln!(out, "quarry {VERSION} (CSI {CSI_VERSION})"),
        OutputFormat::Json => writeln!(out, "{}", json!({ "version": VERSION, "csi": CSI_VERSION })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(output: OutputFormat) -> String {
        let mut out = Vec::new();
        run(output, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_version_is_one_line_for_people_and_for_programs() {
        assert_eq!(printed(OutputFormat::Text), format!("quarry {VERSION} (CSI 1.13.0)\n"));
        let json: serde_json::Value = serde_json::from_str(&printed(OutputFormat::Json)).unwrap();
        assert_eq!(json, json!({ "version": VERSION, "csi": "1.13.0" }));
    }
}
