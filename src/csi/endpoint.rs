//! The unix socket that the orchestrator names in `CSI_ENDPOINT`.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, fchmod};
use tokio::net::{UnixSocket, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;

/// How many callers may wait to be accepted. There are a handful of sidecars.
const BACKLOG: u32 = 128;

/// Bytes of the longest path that fits in a socket's address (`sun_path`, its final zero left out).
const PATH_LIMIT: usize = 107;

/// How long a socket that somebody holds is waited for: a program that a killed process was just starting has its
/// sockets until it begins (between `fork` and `execve`), which includes clearing away all memory of the dead one.
const HELD_AT_MOST: Duration = Duration::from_secs(2);
/// How long between two looks at it.
const HELD_PAUSE: Duration = Duration::from_millis(20);

/// Tries again for a moment while that fails because somebody holds what it wants.
pub async fn once_free<T, E, F: Future<Output = Result<T, E>>>(
    attempt: impl Fn() -> F,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Err(error) if is_held(&error) && begun.elapsed() < HELD_AT_MOST => tokio::time::sleep(HELD_PAUSE).await,
            ended => return ended,
        }
    }
}

/// A socket's absolute path, written `unix:///path/x.sock`, `unix:/path/x.sock` or `/path/x.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("no unix socket with an absolute path; write it like unix:///run/quarry/csi.sock")]
    NotUnix,
    #[error(
        "its name does not end in .sock, as the CSI specification demands; write it like unix:///run/quarry/csi.sock"
    )]
    NotSock,
    #[error("its path has {0} bytes; a unix socket's can have {PATH_LIMIT}")]
    TooLong(usize),
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("the directory of {} does not exist", .0.display())]
    NoDirectory(PathBuf),
    #[error("{} exists and is not a socket; it was left alone", .0.display())]
    NotSocket(PathBuf),
    #[error("another process serves on {}", .0.display())]
    InUse(PathBuf),
    #[error("cannot {action} {}", .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Endpoint {
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Binds the socket, for its owner only, and answers with the connections to come. Waits a moment for one that is held.
    ///
    /// Nothing else is made in the directory, and nobody removes the socket at exit: the next start does.
    pub async fn bind(&self) -> Result<UnixListenerStream, BindError> {
        once_free(|| self.remove_stale(), |error| matches!(error, BindError::InUse(_))).await?;
        let socket = UnixSocket::new_stream().map_err(self.failed("make a socket for"))?;
        // Linux takes the mode of the file from the socket. Set before the bind, there is no moment in which others
        // may connect, and the umask, which all threads share, stays as it is.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(io::Error::from)
            .map_err(self.failed("set the mode of"))?;
        socket.bind(&self.0).map_err(|source| match source.kind() {
            ErrorKind::NotFound => BindError::NoDirectory(self.0.clone()),
            _ => self.failed("bind")(source),
        })?;
        let listener = socket.listen(BACKLOG).map_err(self.failed("listen on"))?;
        Ok(UnixListenerStream::new(listener))
    }

    /// Removes the socket of a process that is gone, and nothing else.
    async fn remove_stale(&self) -> Result<(), BindError> {
        match tokio::fs::symlink_metadata(&self.0).await {
            Ok(file) if file.file_type().is_socket() => {}
            Ok(_) => return Err(BindError::NotSocket(self.0.clone())),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed("look at")(error)),
        }
        match UnixStream::connect(&self.0).await.map_err(|e| e.kind()) {
            Err(ErrorKind::ConnectionRefused) => {}
            // A full backlog: somebody listens, too busy to accept.
            Ok(_) | Err(ErrorKind::WouldBlock) => return Err(BindError::InUse(self.0.clone())),
            Err(ErrorKind::NotFound) => return Ok(()),
            Err(kind) => return Err(self.failed("connect to")(kind.into())),
        }
        match tokio::fs::remove_file(&self.0).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed("remove")(error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> BindError {
        move |source| BindError::Io { action, path: self.0.clone(), source }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
        if !path.starts_with('/') {
            return Err(EndpointError::NotUnix);
        }
        if path.len() > PATH_LIMIT {
            return Err(EndpointError::TooLong(path.len()));
        }
        let path = PathBuf::from(path);
        if path.extension().is_none_or(|extension| extension != "sock") {
            return Err(EndpointError::NotSock);
        }
        Ok(Self(path))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unix://{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn endpoint_in(directory: &Path) -> Endpoint {
        format!("unix://{}/csi.sock", directory.display()).parse().unwrap()
    }

    #[test]
    fn every_way_to_write_a_socket_is_understood() {
        for (text, path) in [
            ("unix:///csi/csi.sock", "/csi/csi.sock"),
            ("unix:/csi/a.sock", "/csi/a.sock"),
            ("/csi/a.sock", "/csi/a.sock"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.path(), Path::new(path), "{text}");
            assert_eq!(endpoint.to_string(), format!("unix://{path}"));
        }
    }

    #[test]
    fn what_is_no_unix_socket_is_refused() {
        for text in ["", "csi.sock", "tcp://0.0.0.0:1", "http://a/b.sock", "UNIX:/a.sock", "unix:", "unix://a.sock"] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError::NotUnix), "{text}");
        }
        for text in ["unix:///csi/csi", "/csi/.sock", "/csi/a.sock/b", "/a.sock~", "unix:///run/"] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError::NotSock), "{text}");
        }
        let long = format!("/{}.sock", "x".repeat(PATH_LIMIT));
        assert_eq!(long.parse::<Endpoint>(), Err(EndpointError::TooLong(PATH_LIMIT + 6)));
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_only_and_alone_in_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = endpoint_in(directory.path());
        let _listener = endpoint.bind().await.unwrap();
        let mode = endpoint.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = endpoint_in(directory.path());
        drop(UnixListener::bind(endpoint.path()).unwrap());
        let _listener = endpoint.bind().await.unwrap();
        UnixStream::connect(endpoint.path()).await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_is_held_for_a_moment_only_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = endpoint_in(directory.path());
        let holder = UnixListener::bind(endpoint.path()).unwrap();
        let held = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(holder);
        });
        let _listener = endpoint.bind().await.unwrap();
        held.await.unwrap();
        UnixStream::connect(endpoint.path()).await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_somebody_serves_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = endpoint_in(directory.path());
        let _listener = UnixListener::bind(endpoint.path()).unwrap();
        let refusal = endpoint.bind().await.unwrap_err();
        assert!(matches!(refusal, BindError::InUse(_)), "{refusal}");
        UnixStream::connect(endpoint.path()).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = endpoint_in(directory.path());
        let elsewhere = directory.path().join("elsewhere.sock");
        drop(UnixListener::bind(&elsewhere).unwrap());
        std::os::unix::fs::symlink(&elsewhere, endpoint.path()).unwrap();
        let refusal = endpoint.bind().await.unwrap_err();
        assert!(matches!(refusal, BindError::NotSocket(_)), "{refusal}");

        std::fs::remove_file(endpoint.path()).unwrap();
        std::fs::write(endpoint.path(), "precious").unwrap();
        let refusal = endpoint.bind().await.unwrap_err();
        assert!(matches!(refusal, BindError::NotSocket(_)), "{refusal}");
        assert_eq!(std::fs::read(endpoint.path()).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_missing_directory_is_named_and_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = endpoint_in(&directory.path().join("missing"));
        let refusal = endpoint.bind().await.unwrap_err();
        assert!(matches!(refusal, BindError::NoDirectory(_)), "{refusal}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
