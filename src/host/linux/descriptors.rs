//! How many files and connections this process may have open.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of open descriptors as far as a process may by itself, and answers it. The usual 1,024 is a relic of
/// `select`; a connection to each of thousands of nodes takes more.
pub fn raise_limit() -> io::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}
