//! Holding a device's writes back and letting them go, and messages to targets (linux/dm-ioctl.h).

use std::io;
use std::path::Path;

use nix::libc;

use super::device_mapper::{Request, ask, open};
use super::system_calls::MAPPER_HEADER;

const SUSPEND: u8 = 6;
const TARGET_MESSAGE: u8 = 14;
/// In a request to suspend: suspends; without it, resumes.
const SUSPENDED: u32 = 1 << 1;
/// Bytes of `struct dm_target_msg` before the text: the sector that the target is at, 0 for the first.
const SECTOR: usize = 8;

/// Holds back the writes of the device of that UUID.
pub(super) fn suspend(control: &Path, uuid: &str) -> io::Result<()> {
    send(control, SUSPEND, Request { flags: SUSPENDED, uuid, ..Request::default() })
}

/// Sets it going again; one that is going stays so.
pub(super) fn resume(control: &Path, uuid: &str) -> io::Result<()> {
    send(control, SUSPEND, Request { uuid, ..Request::default() })
}

/// Sends a message to the first target of the device of that UUID.
pub(super) fn message(control: &Path, uuid: &str, message: &str) -> io::Result<()> {
    let data = [&[0; SECTOR], message.as_bytes(), &[0]].concat();
    send(control, TARGET_MESSAGE, Request { uuid, data: &data, ..Request::default() })
}

fn send(control: &Path, command: u8, request: Request<'_>) -> io::Result<()> {
    // Without a UUID the kernel would look for a name.
    if request.uuid.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let control = open(control)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENXIO))?;
    ask(&control, command, request, MAPPER_HEADER + request.data.len()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_without_a_device() {
        let control = Path::new("/nonexistent/control");
        let refused = [suspend(control, ""), message(control, "", "text"), resume(control, "LVM-x")];
        let kinds = refused.map(|result| result.unwrap_err());
        assert_eq!(kinds[0].kind(), io::ErrorKind::InvalidInput);
        assert_eq!(kinds[1].kind(), io::ErrorKind::InvalidInput);
        assert_eq!(kinds[2].raw_os_error(), Some(libc::ENXIO));
    }
}
