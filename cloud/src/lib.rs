//! What the platform (Alibaba Cloud's, or the emulator standing in for it) speaks: how a connection proves who it is, what
//! the credentials for it look like, and what a message's topic says about the message.
//!
//! Everything here is a function of values: no I/O, no clock, nothing of Kubernetes and nothing of gRPC. The facts about
//! the platform come from its documents; each item names its section of `PLATFORM.md`.

pub mod credentials;
pub mod secret;
pub mod sign;
pub mod topic;
