//! The way to one sidecar.

use std::sync::Arc;

use sluice_proto::control::v1::BrokerMessage;
use tokio::sync::{Notify, mpsc};
use tonic::Status;

/// Messages that may wait for a sidecar to read them. One that leaves so many unread is dead or ill.
const UNREAD: usize = 64;

/// Where a stream's messages come out.
pub(super) type Outflow = mpsc::Receiver<Result<BrokerMessage, Status>>;

/// The sending side of a stream. Clones send on the same one.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    sender: mpsc::Sender<Result<BrokerMessage, Status>>,
    ended: Arc<Notify>,
}

impl Outlet {
    pub(super) fn open() -> (Self, Outflow) {
        // One place is kept for the status that ends it.
        let (sender, receiver) = mpsc::channel(UNREAD + 1);
        (Self { sender, ended: Arc::new(Notify::new()) }, receiver)
    }

    /// Sends a message; `false` if nobody reads them.
    #[must_use]
    pub(super) fn send(&self, message: BrokerMessage) -> bool {
        self.sender.capacity() > 1 && self.sender.try_send(Ok(message)).is_ok()
    }

    /// Ends the stream, both ways.
    pub(super) fn end(&self, status: Status) {
        let _ = self.sender.try_send(Err(status));
        self.ended.notify_one();
    }

    /// Waits until it has been ended, or nobody listens any more.
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = self.ended.notified() => {}
            () = self.sender.closed() => {}
        }
    }
}
