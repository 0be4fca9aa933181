//! Authorities and what they sign. Pure but for the random numbers that keys are made of: times and names come in as
//! arguments.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sluice_cloud::secret::SecretString;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long an authority is valid.
pub const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How long a process's certificate is valid.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How far clocks may be apart: what is signed is valid since so long before.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not one PEM certificate.
    #[error("the certificate can't be read: {0}")]
    Certificate(String),
    /// Not a private key that signs.
    #[error("the private key can't be read: {0}")]
    Key(String),
    /// Two that do not belong together.
    #[error("certificate and private key do not belong together")]
    Mismatch,
    /// It must not sign others.
    #[error("the certificate is not an authority's")]
    NotAnAuthority,
    /// What is to be signed can't be: a name that is no name, say.
    #[error("no certificate can be made for {names}: {reason}")]
    Signing {
        /// The names in it.
        names: String,
        /// Why.
        reason: String,
    },
    /// The cryptographic provider refuses it.
    #[error("the certificate can't be served: {0}")]
    Serving(#[from] rustls::Error),
}

/// From when until when something is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: Timestamp,
    /// The last moment.
    pub not_after: Timestamp,
}

impl Validity {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, CertificateError> {
        let validity = certificate.validity();
        let moment =
            |seconds| Timestamp::from_second(seconds).map_err(|error| CertificateError::Certificate(error.to_string()));
        Ok(Self {
            not_before: moment(validity.not_before.timestamp())?,
            not_after: moment(validity.not_after.timestamp())?,
        })
    }

    /// When a process's certificate should be replaced: after two thirds of its life at the latest. `dice` is a random
    /// number in `0.0..1.0`, so that replicas do not all renew in the same second.
    pub fn renew_at(self, dice: f64) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        let share = 2.0 / 3.0 - 0.1 * dice.clamp(0.0, 1.0);
        self.not_before + SignedDuration::try_from_secs_f64(life.as_secs_f64() * share).unwrap_or_default()
    }
}

/// The certificate of an authority: what others trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    pem: String,
    validity: Validity,
}

impl Anchor {
    /// Reads one certificate of an authority.
    pub fn parse(pem: &str) -> Result<Self, CertificateError> {
        let der = der(pem)?;
        let certificate = parse(&der)?;
        if !certificate.is_ca() {
            return Err(CertificateError::NotAnAuthority);
        }
        let pem = format!("{}\n", pem.trim());
        Ok(Self { validity: Validity::of(&certificate)?, pem })
    }

    /// The certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// How long it counts.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// An authority that can sign.
#[derive(Debug, Clone)]
pub struct Authority {
    anchor: Anchor,
    key: SecretString,
}

impl Authority {
    /// A new one, valid from `now` on.
    pub fn generate(now: Timestamp) -> Result<Self, CertificateError> {
        let failed = |error: rcgen::Error| CertificateError::Signing {
            names: "the authority".into(),
            reason: error.to_string(),
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut wanted = CertificateParams::default();
        // Authorities of an installation have different names, so that nobody tries one's key on the other's signature.
        wanted.distinguished_name = named(&format!("Sluice authority of {}", now.strftime("%Y-%m-%dT%H:%M:%SZ")));
        wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        limit(&mut wanted, now - SKEW, now + AUTHORITY_LIFE);
        let certificate = wanted.self_signed(&key).map_err(failed)?;
        Self::parse(&certificate.pem(), SecretString::from(key.serialize_pem()))
    }

    /// Reads one that was kept: certificate and private key, both PEM, which must belong together.
    pub fn parse(certificate: &str, key: SecretString) -> Result<Self, CertificateError> {
        let anchor = Anchor::parse(certificate)?;
        let der = der(certificate)?;
        let pair = key_pair(&key)?;
        if parse(&der)?.public_key().raw != pair.subject_public_key_info() {
            return Err(CertificateError::Mismatch);
        }
        Ok(Self { anchor, key })
    }

    /// What others trust it by.
    pub fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// The private key, PEM.
    pub fn key(&self) -> &SecretString {
        &self.key
    }

    /// Signs a certificate for a server of these names, which are DNS names or IP addresses. The key is made here and
    /// never leaves the process.
    pub fn sign(&self, names: &[String], now: Timestamp) -> Result<Leaf, CertificateError> {
        let failed =
            |error: rcgen::Error| CertificateError::Signing { names: names.join(", "), reason: error.to_string() };
        let issuer = Issuer::from_ca_cert_pem(&self.anchor.pem, key_pair(&self.key)?).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut wanted = CertificateParams::new(names).map_err(failed)?;
        // What counts are the alternative names: a common name may have 64 characters, a DNS name 253.
        wanted.distinguished_name = named("Sluice operator");
        wanted.is_ca = IsCa::ExplicitNoCa;
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        wanted.use_authority_key_identifier_extension = true;
        let Validity { not_before, not_after } = self.anchor.validity;
        limit(&mut wanted, (now - SKEW).max(not_before), (now + LEAF_LIFE).min(not_after));
        let certificate = wanted.signed_by(&key, &issuer).map_err(failed)?;
        let validity = Validity::of(&parse(certificate.der())?)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(vec![certificate.der().clone()], private, &provider)?;
        Ok(Leaf { key: Arc::new(key), validity, issuer: self.anchor.clone() })
    }
}

/// A server's certificate with its key.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// What TLS serves.
    pub key: Arc<CertifiedKey>,
    /// How long it counts.
    pub validity: Validity,
    /// Who vouches for it.
    pub issuer: Anchor,
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn key_pair(key: &SecretString) -> Result<KeyPair, CertificateError> {
    KeyPair::from_pem(key.expose()).map_err(|error| CertificateError::Key(error.to_string()))
}

fn der(pem: &str) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| CertificateError::Certificate(error.to_string()))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(CertificateError::Certificate(error.to_string())),
    }
}

/// rcgen counts in a type of another library's, which goes to the year 9999: what is signed here lasts ten years at most.
fn limit(wanted: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    let since_1970 = |moment: Timestamp| Duration::from_secs(u64::try_from(moment.as_second()).unwrap_or(0));
    wanted.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_before);
    wanted.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_after);
}

#[cfg(test)]
mod tests;
