//! Contents of devices and files.

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::tools::run;

const STEP: usize = 1 << 20;

/// Writes a pattern over a whole device, in which no block of 4 KiB is zero or like another, and flushes it.
pub fn fill(device: &Path) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(device).with_context(|| device.display().to_string())?;
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    write_pattern(&mut file, length)?;
    file.sync_all()?;
    Ok(())
}

/// Makes a file of so many bytes of the pattern and flushes it.
pub fn file_with(path: &Path, bytes: u64) -> Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    write_pattern(&mut file, bytes)?;
    file.sync_all()?;
    Ok(())
}

fn write_pattern(file: &mut File, length: u64) -> Result<()> {
    let mut block = vec![0xA5_u8; STEP];
    let mut written = 0;
    while written < length {
        for (index, page) in block.chunks_mut(4096).enumerate() {
            let number = written / 4096 + index as u64 + 1;
            page[..8].copy_from_slice(&number.to_le_bytes());
        }
        let step = usize::try_from((length - written).min(STEP as u64))?;
        file.write_all(&block[..step])?;
        written += step as u64;
    }
    Ok(())
}

/// A number for the whole content of a device or file, read from the device itself and not from memory.
pub fn digest(path: &Path) -> Result<u64> {
    digest_of_first(path, u64::MAX)
}

/// The same for its first bytes only.
pub fn digest_of_first(path: &Path, bytes: u64) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    each_block(path, bytes, |block| {
        hasher.write(block);
        true
    })?;
    Ok(hasher.finish())
}

/// Whether all bytes of a device are zero.
pub fn are_zero(device: &Path) -> Result<bool> {
    let mut zero = true;
    let nothing = vec![0_u8; STEP];
    each_block(device, u64::MAX, |block| {
        zero = block == &nothing[..block.len()];
        zero
    })?;
    Ok(zero)
}

fn each_block(path: &Path, bytes: u64, mut look: impl FnMut(&[u8]) -> bool) -> Result<()> {
    let name = path.to_string_lossy();
    if path.starts_with("/dev") {
        run(&["blockdev", "--flushbufs", &name])?;
    } else {
        run(&["dd", &format!("if={name}"), "iflag=nocache", "count=0", "status=none"])?;
    }
    let mut file = File::open(path).with_context(|| path.display().to_string())?.take(bytes);
    let mut block = vec![0_u8; STEP];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 || !look(&block[..read]) {
            return Ok(());
        }
    }
}

/// Reads so many bytes at a place.
pub fn read_at(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(path)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Writes bytes at a place and flushes them.
pub fn write_at(path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path).with_context(|| path.display().to_string())?;
    file.write_all_at(bytes, offset)?;
    file.sync_all()?;
    Ok(())
}
