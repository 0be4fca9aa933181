//! TLS for the link: always on, the certificate always verified, the roots of one's choice.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The bundle can't be read or holds no PEM certificates.
    #[error("spec.instance.caBundle: {source_name} can't be used: {reason}; it must hold PEM certificates")]
    Bundle {
        /// The file, or `pem` for an inline bundle.
        source_name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is neither a bundle nor a store of the system's.
    #[error("this system has no trusted CA certificates ({0}); install ca-certificates or set spec.instance.caBundle")]
    NoRoots(String),
    /// The cryptographic provider does not support what is asked of it.
    #[error("TLS can't be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Which authorities may vouch for the platform.
#[derive(Debug, Clone, Copy)]
pub enum Roots<'a> {
    /// Those of the system.
    System,
    /// Those in a PEM file, and no others.
    File(&'a Path),
    /// Those in a PEM text, and no others.
    Pem(&'a str),
}

/// A client configuration that trusts `roots`: TLS 1.2 or 1.3 (the platform's versions are undocumented, `PLATFORM.md 1.1`).
pub fn client_config(roots: Roots<'_>) -> Result<Arc<ClientConfig>, TlsError> {
    let store = match roots {
        Roots::System => {
            let mut store = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                return Err(TlsError::NoRoots(reasons.join("; ")));
            }
            store
        }
        Roots::File(path) => {
            let refuse = |reason| TlsError::Bundle { source_name: path.display().to_string(), reason };
            let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
            roots_of(&pem).map_err(refuse)?
        }
        Roots::Pem(text) => {
            roots_of(text.as_bytes()).map_err(|reason| TlsError::Bundle { source_name: "pem".to_owned(), reason })?
        }
    };
    Ok(Arc::new(trusting(store)?))
}

/// A client configuration that trusts these authorities.
pub fn trusting(store: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth())
}

/// The authorities in a PEM text, or what is wrong with it.
pub fn roots_of(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    if store.is_empty() { Err("no certificate in it".into()) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_certificates_is_refused_by_name() {
        let error = client_config(Roots::Pem("not a certificate")).unwrap_err().to_string();
        assert!(error.contains("caBundle: pem") && error.contains("no certificate"), "{error}");
        let error = client_config(Roots::File(Path::new("/nowhere/ca.pem"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }
}
