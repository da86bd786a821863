//! Builds csi-sanity from the Go module that pins it, with its one broken spec mended.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::site::programs_folder;

/// The Go module that pins it.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tools");
const MODULE: &str = "github.com/kubernetes-csi/csi-test/v5";
/// No driver that says where its snapshots are can pass this line of 5.6.0: it compares Go's structures instead of what they say,
/// and one of the two has the size of its encoding cached.
const BROKEN: &str = "Expect(topo).To(Equal(ni.GetAccessibleTopology()))";
const MENDED: &str = "Expect(topo.GetSegments()).To(Equal(ni.GetAccessibleTopology().GetSegments()))";

/// Builds it beside this build's own programs.
pub(super) fn csi_sanity() -> Result<()> {
    let folder = programs_folder()?;
    let (copy, pins) = (folder.join("csi-test"), folder.join("csi-test.mod"));
    go(&["mod", "download", MODULE])?;
    mend(Path::new(go(&["list", "-m", "-f", "{{.Dir}}", MODULE])?.trim()), &copy)?;
    let tools = Path::new(TOOLS);
    let pinned = fs::read_to_string(tools.join("go.mod"))?;
    fs::write(&pins, format!("{pinned}\nreplace {MODULE} => {}\n", copy.display()))?;
    fs::copy(tools.join("go.sum"), pins.with_extension("sum"))?;
    let (pins, output) = (format!("-modfile={}", pins.display()), folder.join("csi-sanity").display().to_string());
    go(&["build", &pins, "-o", &output, &format!("{MODULE}/cmd/csi-sanity")]).map(drop)
}

/// Copies the module, which Go keeps unchangeable, with the broken line mended.
fn mend(module: &Path, copy: &Path) -> Result<()> {
    if copy.try_exists()? {
        fs::remove_dir_all(copy)?;
    }
    let copied = Command::new("cp").args(["--recursive", "--no-preserve=mode"]).args([module, copy]).status()?;
    ensure!(copied.success(), "could not copy {}", module.display());
    let spec = copy.join("pkg/sanity/controller.go");
    let text = fs::read_to_string(&spec).with_context(|| spec.display().to_string())?;
    ensure!(text.matches(BROKEN).count() == 1, "csi-test is another one: look whether {BROKEN} still has to be mended");
    Ok(fs::write(spec, text.replace(BROKEN, MENDED))?)
}

fn go(words: &[&str]) -> Result<String> {
    let output = Command::new("go").args(words).current_dir(TOOLS).output();
    let output = output.context("Go is needed to build csi-sanity")?;
    ensure!(output.status.success(), "go {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
