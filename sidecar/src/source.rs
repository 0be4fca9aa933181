//! Where messages come from: the seam between the consumer and a link.
//!
//! A source knows deliveries and credit, nothing of leases or applications. The AMQP one is in [`crate::link`]; tests bring
//! scripted ones.

use std::future::Future;
use std::time::Instant;

use sluice_cloud::sign::SaslCredentials;

use crate::amqp::engine::Incoming;
use crate::amqp::fault::{Fault, Renew};
use crate::amqp::hot::Outcome;
use crate::ledger::LinkEpoch;

/// How far a source has come with what it was told to write, counted in bytes since the link began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark(pub u64);

/// An open link to the platform.
///
/// `settle` and `grant` only note what is to be said; `receive` says it, all in one write, and keeps the link alive. So a
/// source must be polled at all times.
pub trait Source: Send {
    /// Waits until deliveries have come, which are appended to `deliveries`, or until more has been written. Returns how
    /// far writing has come. Can be dropped at any await without losing a delivery.
    fn receive(&mut self, deliveries: &mut Vec<Incoming>) -> impl Future<Output = Result<Mark, Fault>> + Send;

    /// Settles the deliveries `first` to `last`, which may span the wrap at 2³², with one outcome. The platform has been
    /// told once [`receive`](Self::receive) returns a mark that is not below the returned one. A range of another epoch
    /// than this link's is refused.
    fn settle(&mut self, epoch: LinkEpoch, first: u32, last: u32, outcome: Outcome) -> Result<Mark, Fault>;

    /// Lets the platform send up to `credit` deliveries from now on; never takes back what was granted before.
    fn grant(&mut self, credit: u32);

    /// How many deliveries the platform may still send.
    fn outstanding_credit(&self) -> u32;

    /// Writes what is to be written, and ends the link in good order; bounded in time. Returns whether the platform knows
    /// of the end: it has confirmed it, or has ended the connection itself.
    fn close(self) -> impl Future<Output = bool> + Send;
}

/// Opens links.
pub trait Connect: Send + Sync + 'static {
    /// What it opens.
    type Source: Source + 'static;
    /// Where an attempt goes.
    type Target: Send;

    /// Does what is no attempt yet, and may take longer than a permit is of use: looks the host up.
    fn locate(&self) -> impl Future<Output = Result<Self::Target, ConnectError>> + Send;

    /// Makes one attempt; bounded in time. The link is of the given epoch. An attempt that has not reached the platform
    /// at `until` is given up, and nothing of it reaches the platform later: the platform counts attempts as they come.
    fn connect_to(
        &self,
        target: Self::Target,
        epoch: LinkEpoch,
        credentials: SaslCredentials,
        until: Option<Instant>,
    ) -> impl Future<Output = Result<Self::Source, ConnectError>> + Send;

    /// Both, one after the other, where nobody counts attempts.
    fn connect(
        &self,
        epoch: LinkEpoch,
        credentials: SaslCredentials,
    ) -> impl Future<Output = Result<Self::Source, ConnectError>> + Send {
        async move {
            let target = self.locate().await?;
            self.connect_to(target, epoch, credentials, None).await
        }
    }
}

/// Why an attempt to open a link failed, in words that say what to check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The host's name has no address.
    #[error("the host {host} could not be resolved: {reason}; check spec.instance.amqpHost and the cluster's DNS")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No address of the host takes a TCP connection.
    #[error("no TCP connection to {address}: {reason}; check spec.instance.amqpHost, amqpPort and what lies between")]
    Tcp {
        /// Host and port.
        address: String,
        /// What the system said of the last address tried.
        reason: String,
    },
    /// The host did not answer within the bound.
    #[error("{address} did not complete {step} within {seconds} s; check the host, the port, and what lies between")]
    Timeout {
        /// Host and port.
        address: String,
        /// The step that was under way.
        step: &'static str,
        /// The bound.
        seconds: u64,
    },
    /// The attempt did not reach the platform for as long as it was allowed to: it was not made.
    #[error(
        "the connect permit lapsed before {address} had completed {step}; no attempt was made, and the next one waits for \
         another permit; check the host, the port, and what lies between"
    )]
    Lapsed {
        /// Host and port.
        address: String,
        /// The step that was under way.
        step: &'static str,
    },
    /// The TLS handshake failed.
    #[error(
        "TLS with {address} failed: {reason}; if the certificate is not from a public authority, set \
         spec.instance.caBundle"
    )]
    Tls {
        /// Host and port.
        address: String,
        /// What is wrong with the certificate or the protocol.
        reason: String,
    },
    /// The link was refused or lost before it stood.
    #[error(transparent)]
    Amqp(#[from] Fault),
}

impl ConnectError {
    /// What must be renewed before another attempt makes sense.
    pub fn renew(&self) -> Renew {
        match self {
            Self::Amqp(fault) => fault.renew(),
            _ => Renew::Connection,
        }
    }
}
