//! The keys. The operator alone has them: it signs permits and OpenAPI calls with them, and nothing of them enters a pod.
//!
//! A [`Source`] names a place that keys come from; the [`Keeper`] sees to it that there is one [`Handle`] on each, that a
//! Secret is read again, and that temporary keys are renewed before they end. Whoever signs asks the handle for
//! [`Handle::current`] at that moment, and keeps no key.

pub mod clients;
pub mod keeper;
pub mod secret;
pub mod source;

pub use clients::Clients;
pub use keeper::{Credential, Fault, Handle, Keeper, Standing};
pub use source::{Named, Source, SourceError};
