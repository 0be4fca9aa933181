//! The authority as it is kept: the entries of a Secret. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use sluice_cloud::secret::SecretString;

use super::authority::{Anchor, Authority, CertificateError};
use super::plan::{Action, Kept};

const SIGNING: (&str, &str) = ("ca.crt", "ca.key");
const NEXT: (&str, &str) = ("next.crt", "next.key");
const PREVIOUS: &str = "previous.crt";

/// Why what is kept can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// An entry is missing.
    #[error("the entry {0} is missing")]
    Missing(&'static str),
    /// An entry is no text.
    #[error("the entry {0} is not text")]
    NotText(&'static str),
    /// An entry is not what it should be.
    #[error("the entry {entry}: {cause}")]
    Unusable {
        /// Which one.
        entry: &'static str,
        /// What is wrong with it.
        cause: CertificateError,
    },
}

/// The authority, its successor and its predecessor.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The one that signs.
    pub signing: Authority,
    /// The one that will.
    pub next: Option<Authority>,
    /// The one that did.
    pub previous: Option<Anchor>,
}

impl Stored {
    /// Reads the entries of a Secret.
    pub fn read(secret: &Secret) -> Result<Self, StoredError> {
        let entries = Entries(secret.data.as_ref());
        Ok(Self {
            signing: entries.authority(SIGNING)?.ok_or(StoredError::Missing(SIGNING.0))?,
            next: entries.authority(NEXT)?,
            previous: match entries.text(PREVIOUS)? {
                Some(pem) => {
                    Some(Anchor::parse(pem).map_err(|cause| StoredError::Unusable { entry: PREVIOUS, cause })?)
                }
                None => None,
            },
        })
    }

    /// The entries of a Secret.
    pub fn entries(&self) -> BTreeMap<String, ByteString> {
        let mut entries = BTreeMap::new();
        let mut add = |name: &str, text: &str| {
            entries.insert(name.to_owned(), ByteString(text.as_bytes().to_vec()));
        };
        let authorities = [(SIGNING, Some(&self.signing)), (NEXT, self.next.as_ref())];
        for ((certificate, key), authority) in authorities {
            if let Some(authority) = authority {
                add(certificate, authority.anchor().pem());
                add(key, authority.key().expose());
            }
        }
        if let Some(previous) = &self.previous {
            add(PREVIOUS, previous.pem());
        }
        entries
    }

    /// All that is to be trusted, PEM. Those whose time is over are left out, so that a bundle does not grow.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(Authority::anchor);
        [Some(self.signing.anchor()), next, self.previous.as_ref()].into_iter().flatten().map(Anchor::pem).collect()
    }

    /// The times that decisions are made of.
    pub fn kept(&self) -> Kept {
        Kept {
            signing: self.signing.anchor().validity(),
            next: self.next.as_ref().map(|next| next.anchor().validity()),
            previous: self.previous.as_ref().map(Anchor::validity),
        }
    }

    /// What is kept after an action; nothing if the action changes nothing.
    pub fn after(stored: Option<&Self>, action: Action, now: Timestamp) -> Result<Option<Self>, CertificateError> {
        Ok(match (action, stored) {
            (Action::Create, _) => Some(Self { signing: Authority::generate(now)?, next: None, previous: None }),
            (Action::Prepare, Some(stored)) => Some(Self { next: Some(Authority::generate(now)?), ..stored.clone() }),
            (Action::Promote, Some(Self { signing, next: Some(next), .. })) => {
                Some(Self { signing: next.clone(), next: None, previous: Some(signing.anchor().clone()) })
            }
            (Action::Forget, Some(stored)) => Some(Self { previous: None, ..stored.clone() }),
            _ => None,
        })
    }
}

struct Entries<'a>(Option<&'a BTreeMap<String, ByteString>>);

impl<'a> Entries<'a> {
    fn text(&self, name: &'static str) -> Result<Option<&'a str>, StoredError> {
        let Some(bytes) = self.0.and_then(|entries| entries.get(name)) else { return Ok(None) };
        std::str::from_utf8(&bytes.0).map(Some).map_err(|_| StoredError::NotText(name))
    }

    fn authority(&self, (certificate, key): (&'static str, &'static str)) -> Result<Option<Authority>, StoredError> {
        let Some(pem) = self.text(certificate)? else { return Ok(None) };
        let secret = self.text(key)?.ok_or(StoredError::Missing(key))?;
        let authority = Authority::parse(pem, SecretString::from(secret));
        authority.map(Some).map_err(|cause| StoredError::Unusable { entry: certificate, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn step(stored: Option<&Stored>, action: Action) -> Stored {
        Stored::after(stored, action, NOW).unwrap().unwrap()
    }

    fn again(stored: &Stored) -> Stored {
        Stored::read(&Secret { data: Some(stored.entries()), ..Secret::default() }).unwrap()
    }

    #[test]
    fn every_stage_can_be_kept_and_read_again() {
        let created = step(None, Action::Create);
        let prepared = step(Some(&created), Action::Prepare);
        let promoted = step(Some(&prepared), Action::Promote);
        let forgotten = step(Some(&promoted), Action::Forget);
        for stored in [&created, &prepared, &promoted, &forgotten] {
            assert_eq!(again(stored).entries(), stored.entries());
            assert_eq!(again(stored).kept(), stored.kept());
        }
        // The successor is trusted before it signs, and its predecessor after.
        let next = prepared.next.as_ref().unwrap().anchor();
        assert_eq!(prepared.bundle(), format!("{}{}", created.bundle(), next.pem()));
        assert_eq!(promoted.signing.anchor(), next);
        assert_eq!(promoted.bundle(), format!("{}{}", next.pem(), created.bundle()));
        assert_eq!(forgotten.bundle(), next.pem());
        // No key of one that signs no more is kept.
        assert_eq!(promoted.entries().len(), 3);
    }

    #[test]
    fn what_changes_nothing_says_so() {
        let created = step(None, Action::Create);
        for action in [Action::Keep, Action::DistrustClock, Action::Promote] {
            assert!(Stored::after(Some(&created), action, NOW).unwrap().is_none());
        }
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_said_by_its_name() {
        let message = |change: &dyn Fn(&mut BTreeMap<String, ByteString>)| {
            let mut entries = step(Some(&step(None, Action::Create)), Action::Prepare).entries();
            change(&mut entries);
            Stored::read(&Secret { data: Some(entries), ..Secret::default() }).unwrap_err().to_string()
        };
        let set = |name: &str, value: &[u8]| {
            let (name, value) = (name.to_owned(), ByteString(value.to_vec()));
            move |entries: &mut BTreeMap<String, ByteString>| {
                entries.insert(name.clone(), value.clone());
            }
        };
        assert_eq!(message(&|entries| entries.clear()), "the entry ca.crt is missing");
        assert_eq!(message(&|entries| drop(entries.remove("next.key"))), "the entry next.key is missing");
        assert_eq!(message(&set("ca.crt", &[0xff])), "the entry ca.crt is not text");
        assert!(message(&set("ca.key", b"x")).starts_with("the entry ca.crt: the private key can't be read"));
        assert!(
            message(&set("previous.crt", b"x")).starts_with("the entry previous.crt: the certificate can't be read")
        );
    }
}
