//! Listening: each connection gets a task of its own, and none holds up another.

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until `stop` completes. Returns those that are there then; they are cut off with it.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    what: impl Display,
    stop: impl Future<Output = ()>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) -> JoinSet<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut stop = pin!(stop);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut stop => return connections,
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    if let Err(error) = socket.set_nodelay(true) {
                        debug!(%what, %peer, %error, "no TCP_NODELAY");
                    }
                    connections.spawn(serve(socket, peer));
                }
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                // Out of file descriptors, say: the connections that are there must go on.
                Err(error) => {
                    warn!(%what, %error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%what, %error, "a connection's task failed");
                }
            }
        }
    }
}
