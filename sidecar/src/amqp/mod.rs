//! A receiver-only AMQP 1.0 client, without I/O: bytes and time in, bytes and deliveries out (docs/adr/0001).
//!
//! [`engine::Engine`] is the state machine. What comes with every message ([`hot`], [`message`]) is read and written by
//! hand, in place; what comes once on a connection ([`cold`]) goes through fe2o3-amqp-types and `serde_amqp`, behind the
//! checks of [`shape`]. Nothing here opens a socket, reads a clock or logs.

pub mod cold;
pub mod engine;
pub mod fault;
pub mod frame;
pub mod hot;
pub mod message;
#[cfg(test)]
pub mod oracle;
pub mod params;
pub mod reader;
pub mod serial;
pub mod shape;
