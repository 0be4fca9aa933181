//! What the generated devices and their messages keep.

use super::Proof;

pub(super) const PROOFS: &[Proof] = &[];
