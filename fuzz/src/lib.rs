//! What the fuzz targets share: the sidecar's AMQP engine, and the comparison with fe2o3's codec that lives beside its tests.
//!
//! Both are taken from their files and not from the sidecar's crate, which would bring its runtime, TLS and gRPC under the
//! sanitizer for nothing.

#![forbid(unsafe_code)]

#[path = "../../sidecar/src/amqp/mod.rs"]
pub mod amqp;
#[path = "../../sidecar/src/amqp/oracle.rs"]
pub mod oracle;
