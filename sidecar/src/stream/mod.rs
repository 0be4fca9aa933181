//! The application's side: `sluice.v1.Consumer` over gRPC.
//!
//! [`service`] takes streams in and turns them into commands for the consumer, [`table`] keeps what each stream may have in
//! flight, [`wire`] writes what is sent. Nothing here decides an outcome.

pub mod service;
pub mod table;
pub mod wire;
