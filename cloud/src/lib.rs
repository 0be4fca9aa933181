//! What the platform (Alibaba Cloud's, or the emulator standing in for it) speaks: how a connection proves who it is, what
//! the credentials for it look like, and what a message's topic says about the message.
//!
//! Everything here is a function of values: no I/O, no clock, nothing of Kubernetes and nothing of gRPC. The one exception is
//! `client`, which sends calls to the OpenAPI and STS; it comes with the feature of the same name, as does all that only
//! who makes such calls has a use for. The facts about the platform come from its documents; each item names its section of
//! `PLATFORM.md`.

#[cfg(feature = "client")]
pub mod answer;
#[cfg(feature = "client")]
pub mod client;
pub mod credentials;
#[cfg(feature = "client")]
pub mod endpoint;
#[cfg(feature = "client")]
pub mod iot;
#[cfg(feature = "client")]
pub mod pace;
#[cfg(feature = "client")]
pub mod provider;
pub mod rpc;
pub mod secret;
pub mod sign;
#[cfg(feature = "client")]
pub mod sts;
pub mod topic;
