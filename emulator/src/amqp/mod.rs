//! The AMQP edge: TLS, SASL PLAIN, frames, and the protocol of one connection. [`connection`] is the protocol as a state
//! machine without I/O; [`serve`] is the task around it; the rest are its parts. Frames are cut from the stream here and
//! checked for size and depth before `serde_amqp` decodes them; what it is given it can't choke on.

mod admission;
mod connection;
pub(crate) mod encode;
pub(crate) mod frame;
mod preflight;
pub(crate) mod sasl;
mod serve;
mod session;

pub(crate) use self::connection::{Corruption, Failure, Hindrance, Order, Seat};
pub(crate) use self::serve::{Server, accept};
