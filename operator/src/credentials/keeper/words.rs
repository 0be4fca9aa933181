//! What is said of keys that can't be had: what happened, and what to do.

use sluice_cloud::answer::ErrorClass;
use sluice_crds::status::Reason;

use super::Fault;
use super::tending::Unasked;
use crate::credentials::{Named, secret};
use crate::fault::{self, Class};

pub(super) fn not_found(name: &Named) -> Fault {
    let words = format!(
        "Secret {name} does not exist: create it with the keys `{}` and `{}`, or name another",
        secret::ID,
        secret::SECRET
    );
    Fault { reason: Reason::SecretNotFound, words }
}

pub(super) fn incomplete(name: &Named, error: &secret::SecretError) -> Fault {
    Fault { reason: Reason::SecretIncomplete, words: format!("Secret {name} can't be used: {error}") }
}

pub(super) fn unreadable(name: &Named, error: &fault::Fault) -> Fault {
    if denied(error) {
        let words = format!(
            "the operator may not read Secret {name}: add the namespace to the chart's credentials.namespaces, or give \
             the operator's ServiceAccount the right to get Secrets there: {error}"
        );
        return Fault { reason: Reason::PermissionDenied, words };
    }
    Fault { reason: Reason::Unverified, words: format!("Secret {name} can't be read: {error}") }
}

/// Whether Kubernetes knows the operator and forbids it this: that does not pass by itself.
fn denied(error: &fault::Fault) -> bool {
    error.status == Some(403)
}

/// Why Kubernetes gives no token, and how soon it is worth asking again.
pub(super) fn no_token(account: &Named, error: &fault::Fault) -> Unasked {
    let (reason, words) = match error.class {
        Class::NotFound => (
            Reason::ServiceAccountNotFound,
            format!("ServiceAccount {account} does not exist: create it, or name another"),
        ),
        _ if denied(error) => (
            Reason::PermissionDenied,
            format!(
                "the operator may not ask for tokens of ServiceAccount {account}: install the chart with \
                 workloadIdentity.enabled=true and the namespace among credentials.namespaces, if there are any, or give \
                 the operator's ServiceAccount the right to create serviceaccounts/token there: {error}"
            ),
        ),
        _ => (Reason::Unverified, format!("Kubernetes gives no token for ServiceAccount {account}: {error}")),
    };
    let class = match error.class {
        Class::NotFound => ErrorClass::NotFound,
        Class::Forbidden => ErrorClass::PermissionDenied,
        Class::Unavailable | Class::Conflict => ErrorClass::Unavailable,
        Class::User | Class::Internal => ErrorClass::Invalid,
    };
    Unasked { class, fault: Fault { reason, words } }
}
