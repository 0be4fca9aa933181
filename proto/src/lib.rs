//! `sluice.v1`: the gRPC API between the sidecar and the application beside it.
//!
//! The API is written down in `proto/sluice/v1/consumer.proto`; its comments are the documentation, here too. The Rust
//! code in `src/generated` is made from it by `cargo xtask proto` and committed, so that a build needs neither `protoc`
//! nor a build script. Nothing is written by hand here but this file.
//!
//! Features: `client` adds [`v1::consumer_client`], `server` adds [`v1::consumer_server`].

/// Package `sluice.v1`. A `bytes` field is a `bytes::Bytes`, so a payload is never copied to be sent or received.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("generated/sluice.v1.rs");
}

/// The API as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/sluice.v1.bin");
