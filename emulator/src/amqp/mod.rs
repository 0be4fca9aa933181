//! The AMQP edge: TLS, SASL PLAIN, frames, and the protocol of one connection. [`connection`] is the protocol as a state
//! machine without I/O; [`serve`] is the task around it; the rest are its parts. Frames are cut from the stream here and
//! checked for size and depth before `serde_amqp` decodes them; what it is given it can't choke on.

pub(crate) mod admission;
mod connection;
mod corruption;
pub(crate) mod encode;
mod entry;
mod failure;
pub(crate) mod frame;
mod hindrance;
mod preflight;
pub(crate) mod sasl;
mod seat;
mod serve;
mod session;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::connection::Connection;
pub(crate) use self::corruption::Corruption;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::entry::enter;
pub(crate) use self::failure::Failure;
pub(crate) use self::hindrance::Hindrance;
pub(crate) use self::seat::{Order, Seat};
#[cfg(test)]
pub(crate) use self::serve::converse;
pub(crate) use self::serve::{Server, accept};
