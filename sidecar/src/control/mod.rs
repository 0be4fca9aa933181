//! The sidecar towards the operator's broker: `sluice.control.v1`, from the side that holds the slot.
//!
//! [`seat`] is which slots are held, [`requests`] the permits under way, [`alone`] what may be done when no broker is heard,
//! [`terms`] what the broker's policy means; these are pure. [`dial`] and [`line`] get a stream to a broker, [`client`] is
//! the task that ties them together, [`asks`] the consumer's way to it. Nothing here touches a message: the consumer
//! follows the [orders](crate::orders) that come out of here.

pub mod alone;
pub mod asks;
pub mod client;
pub mod dial;
mod line;
mod report;
pub mod requests;
pub mod seat;
pub mod status;
pub mod terms;
#[cfg(test)]
mod tests;
pub mod time;
