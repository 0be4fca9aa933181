//! TLS for the calls: always on, the certificate always verified, the roots of one's choice.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Which authorities may vouch for an endpoint.
#[derive(Clone, Copy, Debug)]
pub enum Roots<'a> {
    /// Those of the system.
    System,
    /// Those in a PEM text, and no others.
    Only(&'a str),
    /// Those of the system, and those in a PEM text.
    SystemAnd(&'a str),
}

/// Why no TLS configuration could be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    /// The bundle holds something else than PEM certificates, or nothing.
    #[error("the CA bundle can't be used: {0}; it must hold PEM certificates")]
    Bundle(String),
    /// The system trusts nobody.
    #[error("this system has no trusted CA certificates ({0}); install ca-certificates, or give a CA bundle")]
    NoRoots(String),
    /// The cryptographic provider does not support what is asked of it.
    #[error("TLS can't be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A configuration that trusts `roots`, for TLS 1.2 and 1.3.
pub(super) fn config(roots: Roots<'_>) -> Result<ClientConfig, TlsError> {
    let mut store = RootCertStore::empty();
    if let Roots::System | Roots::SystemAnd(_) = roots {
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
        if store.is_empty() && matches!(roots, Roots::System) {
            let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(TlsError::NoRoots(reasons.join("; ")));
        }
    }
    if let Roots::Only(pem) | Roots::SystemAnd(pem) = roots {
        add(&mut store, pem)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth())
}

/// Whether authorities can be read from a PEM text, as a client that trusts [`Roots::Only`] it would.
pub fn check_bundle(pem: &str) -> Result<(), TlsError> {
    add(&mut RootCertStore::empty(), pem)
}

fn add(store: &mut RootCertStore, pem: &str) -> Result<(), TlsError> {
    let mut any = false;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| TlsError::Bundle(error.to_string()))?;
        store.add(certificate).map_err(|error| TlsError::Bundle(error.to_string()))?;
        any = true;
    }
    if any { Ok(()) } else { Err(TlsError::Bundle("there is no certificate in it".to_owned())) }
}
