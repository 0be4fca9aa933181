//! The consumer's way to a permit: it asks, and waits until the task that speaks with the broker has one for it, be it the
//! broker's or of its own accord.

use tokio::sync::{mpsc, oneshot};

use crate::permit::{Permit, PermitError, Permits, Place};

/// A link waits for a permit.
#[derive(Debug)]
pub struct Ask {
    /// What the attempt is for.
    pub place: Place,
    /// Where the permit goes; closed when it is not wanted any more.
    pub reply: oneshot::Sender<Permit>,
}

/// Permits by way of the broker.
#[derive(Debug, Clone)]
pub struct BrokerPermits {
    asks: mpsc::UnboundedSender<Ask>,
}

impl BrokerPermits {
    /// These, and where what is asked for comes out. There is at most one ask for a link at a time.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Ask>) {
        let (asks, inbox) = mpsc::unbounded_channel();
        (Self { asks }, inbox)
    }
}

impl Permits for BrokerPermits {
    async fn next(&self, place: Place) -> Result<Permit, PermitError> {
        let (reply, permit) = oneshot::channel();
        self.asks.send(Ask { place, reply }).map_err(|_| PermitError::Closed)?;
        permit.await.map_err(|_| PermitError::Closed)
    }
}
