//! The sidecar: holds the AMQP link to the platform and serves its messages to an application over a local gRPC stream.
//! A message is settled on the platform only once the application has acknowledged it.

pub mod amqp;
