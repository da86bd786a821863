//! Finds the `quarry-lab` program: the library starts it as launcher and, inside, as init and agent.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// `$QUARRY_LAB`, else this program itself, else the one that cargo put beside this program or above its folder.
pub(crate) fn program() -> Result<PathBuf> {
    if let Some(path) = env::var_os("QUARRY_LAB") {
        return Ok(PathBuf::from(path));
    }
    let own = env::current_exe().context("no path of this program")?;
    let name = "quarry-lab";
    if own.file_name().is_some_and(|own| own == name) {
        return Ok(own);
    }
    own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file()).with_context(|| {
        format!("no {name} near {}: build it (cargo build -p quarry-lab) or name it in QUARRY_LAB", own.display())
    })
}
