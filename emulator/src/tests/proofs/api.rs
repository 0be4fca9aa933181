//! The rules and values of the OpenAPI, STS and the keys.

use super::Proof;

pub(super) const PROOFS: &[Proof] = &[];
