//! What the machine's administrator says to lvm.

use std::fs;

use anyhow::Result;

const FILE: &str = "/etc/lvm/lvmlocal.conf";

/// The machine's `lvmlocal.conf` says something else, until this ends. A node looks when it starts.
#[derive(Debug)]
pub struct LocalSettings {
    before: Option<Vec<u8>>,
}

impl LocalSettings {
    /// Has it say so, and nothing else.
    pub fn say(text: &str) -> Result<Self> {
        let before = fs::read(FILE).ok();
        fs::write(FILE, text)?;
        Ok(Self { before })
    }
}

impl Drop for LocalSettings {
    fn drop(&mut self) {
        let restored = match &self.before {
            Some(before) => fs::write(FILE, before),
            None => fs::remove_file(FILE),
        };
        if let Err(error) = restored {
            println!("could not write {FILE} as it was: {error}");
        }
    }
}
