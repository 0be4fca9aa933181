//! The gRPC APIs: `sluice.v1` between the sidecar and the application beside it, `sluice.control.v1` between the sidecar
//! and the operator.
//!
//! They are written down in `proto/sluice/…/*.proto`; the comments there are the documentation, here too. The Rust
//! code in `src/generated` is made from it by `cargo xtask proto` and committed, so that a build needs neither `protoc`
//! nor a build script. Nothing is written by hand here but this file.
//!
//! Features: `client` and `server` add [`v1::consumer_client`] and [`v1::consumer_server`], `control-client` and
//! `control-server` add [`control::v1::control_client`] and [`control::v1::control_server`].

/// Package `sluice.v1`. A `bytes` field is a `bytes::Bytes`, so a payload is never copied to be sent or received.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("generated/sluice.v1.rs");
}

/// What the sidecar and the operator say to each other.
pub mod control {
    /// Package `sluice.control.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    pub mod v1 {
        include!("generated/sluice.control.v1.rs");
    }

    /// The lowest and the highest version of the protocol that this build speaks.
    pub const PROTOCOLS: std::ops::RangeInclusive<u32> = 1..=1;
}

/// `sluice.v1` as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/sluice.v1.bin");
