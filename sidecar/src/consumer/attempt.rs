//! A link's life between the consumer's turns: none wanted, waiting, connecting, up, closing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use tokio::time::{sleep_until, timeout};

use super::uplink::Uplink;
use crate::amqp::engine::Incoming;
use crate::amqp::fault::{Fault, Renew, is_end_by_peer};
use crate::clock;
use crate::ledger::LinkEpoch;
use crate::permit::{Permit, PermitError, Permits, Place};
use crate::source::{Connect, ConnectError, Mark, Source};

/// How long the platform may take to confirm the end of a link.
const CLOSE: Duration = Duration::from_secs(3);

/// An attempt under way.
pub(super) struct Attempt<S> {
    result: Pin<Box<dyn Future<Output = Result<S, AttemptError>> + Send>>,
    /// It has its permit, and the platform may know of it.
    made: Arc<AtomicBool>,
}

impl<S> Attempt<S> {
    /// Whether the platform may know of it.
    pub(super) fn is_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }
}

/// An end under way; says whether the platform knows of it.
type Closing = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// It was not made.
    #[error(transparent)]
    Permit(#[from] PermitError),
    /// It was not made: this process, or its machine, stood still for too long.
    #[error("the permit was not used in time")]
    Lapsed,
    /// It was made, or the host could not be found.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl AttemptError {
    /// What must be renewed before another one makes sense.
    pub fn renew(&self) -> Renew {
        match self {
            Self::Permit(_) | Self::Lapsed => Renew::Connection,
            Self::Connect(error) => error.renew(),
        }
    }

    /// Whether the platform knows that nothing came of it: there was no AMQP connection, or it has ended it itself. A
    /// connection that our side or the way between has lost may have stood there before.
    pub fn is_known(&self) -> bool {
        match self {
            Self::Connect(ConnectError::Amqp(Fault::Lost { kind, .. })) => is_end_by_peer(*kind),
            Self::Connect(ConnectError::Amqp(fault)) => {
                matches!(fault, Fault::Refused { .. } | Fault::AuthenticationFailed { .. } | Fault::NotAmqp { .. })
            }
            _ => true,
        }
    }
}

/// Where a link stands.
pub(super) enum Link<S> {
    /// Nobody wants one.
    Idle,
    /// The next attempt comes at this time.
    Waiting(Instant),
    /// An attempt is under way.
    Connecting(Attempt<S>),
    /// It stands.
    Up(LinkEpoch, S),
    /// It is being closed; the next attempt comes no earlier than that is over, and at this time if one is wanted.
    Closing(Closing, Option<Instant>),
}

/// What came of waiting for a link.
pub(super) enum LinkEvent<S> {
    /// It is time for an attempt.
    Due,
    /// An attempt is over.
    Attempted(Result<S, AttemptError>),
    /// The source has something.
    Received(Result<Mark, Fault>),
    /// It is closed; whether the platform knows.
    Closed(bool),
}

impl<S: Source + 'static> Link<S> {
    /// Begins an attempt. What takes time and is no attempt yet comes before the permit.
    pub(super) fn connect<C, P>(connector: Arc<C>, permits: Arc<P>, place: Place, epoch: LinkEpoch) -> Self
    where
        C: Connect<Source = S>,
        P: Permits,
    {
        let made = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&made);
        let result = Box::pin(async move {
            let target = connector.locate().await?;
            let Permit { credentials, until } = permits.next(place).await?;
            if until.is_some_and(|until| until <= clock::now()) {
                return Err(AttemptError::Lapsed);
            }
            begins.store(true, Ordering::Relaxed);
            Ok(connector.connect_to(target, epoch, credentials, until).await?)
        });
        Self::Connecting(Attempt { result, made })
    }

    /// Begins to close a link.
    pub(super) fn close(source: S, then: Option<Instant>) -> Self {
        Self::Closing(Box::pin(async move { timeout(CLOSE, source.close()).await.unwrap_or(false) }), then)
    }

    /// The source, if the link is up.
    pub(super) fn source(&mut self) -> Option<(LinkEpoch, &mut S)> {
        match self {
            Self::Up(epoch, source) => Some((*epoch, source)),
            _ => None,
        }
    }

    /// Waits for what comes next. Can be dropped at any await.
    async fn next(&mut self, deliveries: &mut Vec<Incoming>) -> LinkEvent<S> {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Waiting(until) => {
                sleep_until((*until).into()).await;
                LinkEvent::Due
            }
            Self::Connecting(attempt) => {
                let result = attempt.result.as_mut().await;
                *self = Self::Idle;
                LinkEvent::Attempted(result)
            }
            Self::Up(_, source) => LinkEvent::Received(source.receive(deliveries).await),
            Self::Closing(closing, then) => {
                let known = closing.as_mut().await;
                *self = then.map_or(Self::Idle, Self::Waiting);
                LinkEvent::Closed(known)
            }
        }
    }
}

/// Waits for what comes next on any link, and says on which. Can be dropped at any await. Each must be polled at all times,
/// so `first`, which is asked first, is to be another one from time to time.
pub(super) async fn next_event<S: Source + 'static>(uplinks: &mut [Uplink<S>], first: usize) -> (usize, LinkEvent<S>) {
    match uplinks {
        [] => std::future::pending().await,
        [only] => (0, only.link.next(&mut only.deliveries).await),
        many => {
            let count = many.len();
            let (before, from) = many.split_at_mut(first % count);
            let begins = before.len();
            let in_turn =
                from.iter_mut().chain(before).map(|uplink| Box::pin(uplink.link.next(&mut uplink.deliveries)));
            let (event, place, _) = select_all(in_turn).await;
            ((begins + place) % count, event)
        }
    }
}
