//! The rules and values that a connection keeps.

use super::Proof;

pub(super) const PROOFS: &[Proof] = &[];
