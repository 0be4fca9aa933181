//! The link's life between the consumer's turns: none wanted, waiting, connecting, up.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use tokio::time::sleep_until;

use crate::amqp::engine::Incoming;
use crate::amqp::fault::{Fault, Renew};
use crate::ledger::LinkEpoch;
use crate::permit::{PermitError, Permits};
use crate::source::{Connect, ConnectError, Mark, Source};

/// An attempt under way: it has the permits to itself and gives them back.
type Attempt<P, S> = Pin<Box<dyn Future<Output = (P, Result<S, AttemptError>)> + Send>>;

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// It was not made.
    #[error(transparent)]
    Permit(#[from] PermitError),
    /// It was made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl AttemptError {
    /// What must be renewed before another one makes sense.
    pub fn renew(&self) -> Renew {
        match self {
            Self::Permit(_) => Renew::Connection,
            Self::Connect(error) => error.renew(),
        }
    }
}

/// Where the link stands.
pub(super) enum Link<P, S> {
    /// Nobody wants one.
    Idle(P),
    /// The next attempt comes at this time.
    Waiting(P, Instant),
    /// An attempt is under way.
    Connecting(Attempt<P, S>),
    /// It stands.
    Up(P, LinkEpoch, S),
    /// Between two of the others.
    Moving,
}

/// What came of waiting for the link.
pub(super) enum LinkEvent<S> {
    /// It is time for an attempt.
    Due,
    /// An attempt is over.
    Attempted(Result<S, AttemptError>),
    /// The source has something.
    Received(Result<Mark, Fault>),
}

impl<P: Permits, S: Source + 'static> Link<P, S> {
    /// Begins an attempt.
    pub(super) fn connect<C: Connect<Source = S>>(
        connector: &std::sync::Arc<C>,
        mut permits: P,
        epoch: LinkEpoch,
    ) -> Self {
        let connector = std::sync::Arc::clone(connector);
        let attempt = async move {
            let result = match permits.next().await {
                Ok(credentials) => connector.connect(epoch, credentials).await.map_err(AttemptError::from),
                Err(error) => Err(error.into()),
            };
            (permits, result)
        };
        Self::Connecting(Box::pin(attempt))
    }

    /// The source, if the link is up.
    pub(super) fn source(&mut self) -> Option<(LinkEpoch, &mut S)> {
        match self {
            Self::Up(_, epoch, source) => Some((*epoch, source)),
            _ => None,
        }
    }

    /// Waits for what comes next. Can be dropped at any await.
    pub(super) async fn next(&mut self, deliveries: &mut Vec<Incoming>) -> LinkEvent<S> {
        match self {
            Self::Idle(_) | Self::Moving => std::future::pending().await,
            Self::Waiting(_, until) => {
                sleep_until((*until).into()).await;
                LinkEvent::Due
            }
            Self::Connecting(attempt) => {
                let (permits, result) = attempt.as_mut().await;
                *self = Self::Idle(permits);
                LinkEvent::Attempted(result)
            }
            Self::Up(_, _, source) => LinkEvent::Received(source.receive(deliveries).await),
        }
    }
}
