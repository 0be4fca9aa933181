//! What a connection asks of the platform, and what the platform asks of a connection.

use std::collections::VecDeque;
use std::time::Duration;

use super::corruption::Corruption;
use super::failure::Failure;
use super::hindrance::Hindrance;
use crate::platform::{Code, Credit, Door, Outcome, Outgoing, Refusal};

/// A connection's place at the platform: what the protocol asks of it.
pub(crate) trait Seat {
    /// Comes to a door. It takes a client slot of the group at one of them.
    fn pass(&mut self, door: Door) -> Result<(), Refusal>;
    /// The receiver link is there.
    fn attach(&mut self);
    /// The receiver link is gone.
    fn detach(&mut self);
    /// The client says how much it takes.
    fn grant(&mut self, credit: Credit);
    /// The client answers for a range of deliveries.
    fn settle(&mut self, first: u32, last: u32, outcome: Outcome);
    /// Fetches what is to be written next, at most `limit` things.
    fn fetch(&mut self, limit: usize, into: &mut VecDeque<Outgoing>);
    /// Takes what the platform has decided to do to this connection.
    fn orders(&mut self) -> Vec<Order>;
    /// The platform's own log hears of this.
    fn note(&mut self, code: Code, words: &str);
    /// The connection is over.
    fn leave(&mut self);
}

/// Something the platform does to a connection on its own account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Close it in good order (9602 in the platform's log), with an error or without.
    Close(Option<Failure>),
    /// End its link's session, with an error or without.
    End(Option<Failure>),
    /// Detach its link, for good or not, with an error or without.
    Detach { failure: Option<Failure>, closed: bool },
    /// Drop the TCP connection without a word.
    Drop,
    /// Behave as if the security token that it was made with had expired.
    Expire,
    /// Do not read, not write, or write late, for so long.
    Hinder { what: Hindrance, lasts: Duration },
    /// Spoil the next frame that is written.
    Corrupt(Corruption),
}
