//! What the consumer is to do: the one thing that it hears from those who decide about slots and policy. The last orders
//! count, whole; there is no need to have seen all.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::ledger::Policy;

/// See the module's description. `C` opens the links.
#[derive(Debug)]
pub struct Orders<C> {
    /// Counts them, from 1: the consumer says which it has followed ([`Snapshot::followed`](crate::consumer::Snapshot)).
    pub number: u64,
    /// What links there may be.
    pub seat: Seating,
    /// How new links are opened; `None` as long as that is not known.
    pub connector: Option<Arc<C>>,
    /// How messages are handed to the application.
    pub policy: Policy,
    /// Changes with what user names and passwords are made of: what was refused may be taken now.
    pub credentials_version: u64,
}

/// What links there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seating {
    /// None.
    StandBy {
        /// Why, for applications.
        reason: String,
    },
    /// One for each of the slots of a grant.
    Use {
        /// The grant.
        epoch: u64,
        /// The slots' indices.
        slots: Vec<u32>,
    },
    /// Those of this grant, but only to answer what is in hand, and until then at most.
    Leave {
        /// The grant.
        epoch: u64,
        /// When they are closed, whatever is in hand.
        until: Instant,
        /// Why, for applications.
        reason: String,
    },
}

impl Seating {
    /// The grant whose links may be up.
    pub fn epoch(&self) -> Option<u64> {
        match self {
            Self::StandBy { .. } => None,
            Self::Use { epoch, .. } | Self::Leave { epoch, .. } => Some(*epoch),
        }
    }
}

impl<C> Orders<C> {
    /// Orders that never change: so many links, always.
    pub fn fixed(connector: C, policy: Policy, links: u32) -> watch::Receiver<Arc<Self>> {
        let seat = Seating::Use { epoch: 1, slots: (0..links.max(1)).collect() };
        let connector = Some(Arc::new(connector));
        watch::channel(Arc::new(Self { number: 1, seat, connector, policy, credentials_version: 0 })).1
    }
}
