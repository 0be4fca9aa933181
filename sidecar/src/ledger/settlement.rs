//! The two names a message goes by, that of its transfer on a link and that of its lease, and the outcome that the
//! ledger decides for a transfer.

/// Names one link in the life of the process: every link that comes up has a higher one than all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkEpoch(pub u64);

/// Names one delivery of a message on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// The link it came on.
    pub epoch: LinkEpoch,
    /// AMQP's delivery-id on that link: a serial number that wraps at 2³², so it has no order.
    pub delivery_id: u32,
}

/// Names one lease, which is what an application knows as `delivery_id`. A message that is given out again has a new
/// one each time, so a verdict on an earlier lease can't be mistaken for one on the present lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// Names an application client: a client ID, interned by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// What becomes of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The platform is told ACCEPTED: the message is done.
    Accepted,
    /// The platform is told RELEASED: the message is its own again.
    Released,
    /// The platform is told nothing, and takes the message back by its ACK timeout (`delivery.handBack: Expire`). The
    /// transfer is over for the sidecar: no other outcome follows, and its credit is free.
    LeftToExpire,
}

/// A decision of the ledger, to be written to the link of the transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settlement {
    /// Which transfer.
    pub transfer: Transfer,
    /// What becomes of it.
    pub outcome: Outcome,
}
