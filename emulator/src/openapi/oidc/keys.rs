//! The keys of an identity provider: a JWKS as an issuer publishes it, or public keys as PEM, as a Kubernetes API server is
//! given them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;

/// Why keys can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeysError {
    #[error("not a JWKS: {0}")]
    Jwks(String),
    #[error("not PEM: {0}")]
    Pem(String),
    #[error("there is no RSA or P-256 key in it; it must be a JWKS, or PEM blocks that say PUBLIC KEY")]
    None,
}

#[derive(Debug)]
enum PublicKey {
    /// Modulus and exponent, big-endian.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
}

impl PublicKey {
    fn verify(&self, algorithm: &str, text: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Rsa { n, e }, "RS256") => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, text, signature).is_ok()
            }
            (Self::P256(point), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// The keys, with the IDs that some of them have.
#[derive(Debug)]
pub(crate) struct KeySet(Vec<(Option<String>, PublicKey)>);

#[derive(Debug, Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    /// The key, if it is of a kind that is known here.
    fn key(&self) -> Option<PublicKey> {
        let part = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_deref()?).ok();
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Some(PublicKey::Rsa { n: part(&self.n)?, e: part(&self.e)? }),
            ("EC", Some("P-256")) => Some(PublicKey::P256([vec![4], part(&self.x)?, part(&self.y)?].concat())),
            _ => None,
        }
    }
}

impl KeySet {
    /// Reads a JWKS or PEM.
    pub(crate) fn parse(text: &str) -> Result<Self, KeysError> {
        let keys: Vec<_> = if text.trim_start().starts_with('{') {
            let jwks: Jwks = serde_json::from_str(text).map_err(|error| KeysError::Jwks(error.to_string()))?;
            jwks.keys.into_iter().filter_map(|jwk| Some((jwk.kid.clone(), jwk.key()?))).collect()
        } else {
            let blocks: Result<Vec<_>, _> = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes()).collect();
            let blocks = blocks.map_err(|error| KeysError::Pem(error.to_string()))?;
            blocks.iter().filter_map(|der| Some((None, public_key(der)?))).collect()
        };
        if keys.is_empty() { Err(KeysError::None) } else { Ok(Self(keys)) }
    }

    /// Whether one of the keys has signed `text`. Where both the token and a key name an ID, it must be the same.
    pub(super) fn verify(&self, algorithm: &str, id: Option<&str>, text: &[u8], signature: &[u8]) -> bool {
        let candidates = self.0.iter().filter(|(own, _)| match (own.as_deref(), id) {
            (Some(own), Some(id)) => own == id,
            _ => true,
        });
        candidates.into_iter().any(|(_, key)| key.verify(algorithm, text, signature))
    }
}

/// The objects of DER that a public key is made of (X.690, 8).
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// The object identifiers (with their tag and length) of RSA, of elliptic curves, and of P-256.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Takes one object with this tag off the front: its content, and what follows.
fn object(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&length, rest)| (usize::from(length), rest))?,
        0x82 => rest.split_first_chunk().map(|(&length, rest)| (usize::from(u16::from_be_bytes(length)), rest))?,
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// Reads a `SubjectPublicKeyInfo`.
fn public_key(der: &[u8]) -> Option<PublicKey> {
    let (info, _) = object(der, SEQUENCE)?;
    let (algorithm, rest) = object(info, SEQUENCE)?;
    let (bits, _) = object(rest, BIT_STRING)?;
    let key = bits.strip_prefix(&[0])?;
    if algorithm.starts_with(RSA) {
        let (numbers, _) = object(key, SEQUENCE)?;
        let (n, rest) = object(numbers, INTEGER)?;
        let (e, _) = object(rest, INTEGER)?;
        // A leading zero keeps a number positive; ring wants none.
        let positive = |number: &[u8]| number.strip_prefix(&[0]).unwrap_or(number).to_vec();
        return Some(PublicKey::Rsa { n: positive(n), e: positive(e) });
    }
    let curve = algorithm.strip_prefix(EC)?;
    (curve == P256).then(|| PublicKey::P256(key.to_vec()))
}
