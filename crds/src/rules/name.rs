//! The rule for a document's name. Unlike all others it is not about `spec`.

use super::form::{self, quoted};
use crate::validate::Violation;

pub(crate) const PATH: &str = "metadata.name";
/// The most characters of a label's value, which the name becomes.
pub(crate) const MAX: usize = 63;
pub(crate) const EXPECTED: &str = "a DNS subdomain of at most 63 characters";
pub(crate) const ADVICE: &str =
    "use lower-case letters, digits, '-' and '.', with a letter or digit at either end; pods name it in a label";

/// What is wrong with it.
pub(crate) fn check(name: &str) -> Option<Violation> {
    let kept = form::DNS_SUBDOMAIN.fits(name) && name.len() <= MAX;
    (!kept).then(|| Violation { path: PATH, found: quoted(name), expected: EXPECTED.to_owned(), advice: ADVICE })
}
