//! The sidecar: holds the AMQP link to the platform and serves its messages to an application over a local gRPC stream.
//! A message is settled on the platform only once the application has acknowledged it.
//!
//! Data flows one way and its verdict flows back:
//!
//! ```text
//! platform ⇄ source (link) → ledger → stream → application
//!              ↑ settle           ↓ verdict
//! ```
//!
//! [`consumer`] is the task that ties them together; [`ledger`], [`credit`], [`settle`], [`backoff`] and [`amqp`] are pure:
//! they take values and time and do no I/O.

pub mod admin;
pub mod amqp;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod consumer;
pub mod control;
pub mod credentials;
pub mod credit;
pub mod drain;
pub mod ledger;
pub mod link;
pub mod listen;
pub mod memory;
pub mod metrics;
pub mod orders;
pub mod permit;
pub mod readiness;
pub mod repeat;
pub mod run;
pub mod saturation;
pub mod settle;
pub mod source;
pub mod stream;
pub mod tls;
