//! Where applications connect: a Unix socket, or loopback. Never anything that others can reach, since what is served there
//! has neither TLS nor authentication.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::{Router, TcpIncoming};

/// Where applications connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket.
    Unix(PathBuf),
    /// TCP on loopback.
    Tcp(SocketAddr),
}

impl Listen {
    /// The folder that the socket is in.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => path.parent(),
            Self::Tcp(_) => None,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = "expected unix:///PATH or tcp://127.0.0.1:PORT";
        if let Some(path) = text.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(format!("{help}: the path is not absolute"))
            };
        }
        let address = text.strip_prefix("tcp://").ok_or(help)?;
        let address: SocketAddr = address.parse().map_err(|error| format!("{help}: {error}"))?;
        if address.ip().is_loopback() {
            Ok(Self::Tcp(address))
        } else {
            Err(format!("{help}: {address} is not loopback, and messages are served without TLS or authentication"))
        }
    }
}

/// Binds the application's address and returns it with the server on it.
pub async fn serve(
    listen: Listen,
    router: Router,
) -> Result<(String, impl Future<Output = Result<(), tonic::transport::Error>>)> {
    Ok(match listen {
        Listen::Unix(path) => {
            let listener = bind_unix(&path)?;
            let address = format!("unix://{}", path.display());
            let incoming = UnixListenerStream::new(listener);
            (address, futures_util::future::Either::Left(router.serve_with_incoming(incoming)))
        }
        Listen::Tcp(address) => {
            let listener =
                TcpListener::bind(address).await.with_context(|| format!("--listen tcp://{address} can't be bound"))?;
            let address = format!("tcp://{}", listener.local_addr()?);
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            (address, futures_util::future::Either::Right(router.serve_with_incoming(incoming)))
        }
    })
}

/// A socket that was left behind by a process that is gone is taken over; one that is served is not.
fn bind_unix(path: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            bail!("--listen unix://{}: another process serves this socket", path.display());
        }
        std::fs::remove_file(path).with_context(|| format!("the old socket {} can't be removed", path.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| {
        format!("--listen unix://{} can't be bound; its folder must exist and be writable", path.display())
    })?;
    // The application runs as another user; who may reach the socket is decided by the directory around it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        .with_context(|| format!("the mode of {} can't be set", path.display()))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_or_loopback_is_served() {
        assert_eq!("unix:///run/s.sock".parse(), Ok(Listen::Unix("/run/s.sock".into())));
        assert_eq!("tcp://127.0.0.1:0".parse(), Ok(Listen::Tcp(([127, 0, 0, 1], 0).into())));
        for bad in
            ["", "unix://relative", "tcp://0.0.0.0:1", "tcp://10.0.0.1:1", "tcp://localhost", "http://127.0.0.1:1"]
        {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_abandoned_socket_is_taken_over_and_a_served_one_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _context = runtime.enter();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let served = bind_unix(&path).unwrap();
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.contains("another process serves"), "{error}");
        drop(served);
    }
}
