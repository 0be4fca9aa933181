//! What is counted of a group.

use serde::Serialize;

/// A group's counts. `published`, `pushed`, `accepted`, `released`, `rejected`, `modified`, `expired` and `dropped` are
/// totals since the start; `repeated` are as well; `waiting`, `backlog`, `unsettled`, `clients` and `surplus` are what is there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Messages published.
    pub published: u64,
    /// Copies of messages that were pushed again because an admin wanted it.
    pub repeated: u64,
    /// Pushes, repeated ones included.
    pub pushed: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Deliveries released, or settled without an outcome.
    pub released: u64,
    /// Deliveries rejected.
    pub rejected: u64,
    /// Deliveries modified.
    pub modified: u64,
    /// Deliveries not answered within the ACK timeout.
    pub expired: u64,
    /// Messages given up: too old, say, or the backlog was full.
    pub dropped: u64,
    /// Real-time messages that wait for credit or for the push rate.
    pub waiting: u64,
    /// Messages in the backlog.
    pub backlog: u64,
    /// Deliveries pushed and not answered.
    pub unsettled: u64,
    /// Open connections within the limit, as the profile counts them.
    pub clients: u64,
    /// The most there were at a time.
    pub clients_peak: u64,
    /// Open connections beyond the limit, which the profile lets in.
    pub surplus: u64,
    /// Attempts to connect, refused ones included.
    pub connect_attempts: u64,
    /// The most attempts in any 60 s.
    pub connect_attempts_peak_per_minute: u64,
}
