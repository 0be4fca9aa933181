//! What the generated devices and their messages keep. No rule of the platform, and no field of a profile, is about them;
//! what they promise is tested beside them.

use super::Proof;

pub(super) const PROOFS: &[Proof] = &[];
