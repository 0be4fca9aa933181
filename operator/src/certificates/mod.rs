//! The certificates by which sidecars know the broker and the API server knows the webhook: a long-lived authority of the
//! installation's own, kept in one Secret, and a short-lived certificate per operator process, kept in memory alone.
//!
//! Here are the edges: [`Keeper`], which keeps both, and [`trust`], which tells the API server. What is decided, and when,
//! is pure: [`plan`] over times, [`authority`] over names and keys.
//!
//! **Renewal of the authority** takes years on purpose. A pod keeps the bundle that injection wrote into it for its whole
//! life, so a successor is in every bundle for a year ([`plan::TRUSTED_FIRST`]) before it signs anything. A pod that is
//! older than that when the successor takes over no longer trusts the broker, and goes on as one that has lost it:
//! restart it. This happens once in ten years.

pub mod authority;
mod keeper;
mod listener;
pub mod plan;
pub mod stored;
pub mod trust;

pub use authority::CertificateError;
pub use keeper::{Certificates, Keeper, KeeperError, SECRET, Served};
pub use listener::Listener;

#[cfg(test)]
pub(crate) use keeper::tests as keeper_tests;
