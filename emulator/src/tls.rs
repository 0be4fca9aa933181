//! The emulator's own certificate authority and its server certificate. The CA is kept in a directory, so that a client
//! that trusts it goes on trusting it; the server certificate is made anew at every start.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::TLS12;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use crate::profile::TlsVersions;

/// The names that the server certificate is always good for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

static ONLY_12: [&SupportedProtocolVersion; 1] = [&TLS12];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of the CA can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A key or certificate can't be made or read.
    #[error("can't make a certificate: {0} (remove ca.pem and ca.key for a new CA)")]
    Certificate(#[from] rcgen::Error),
    /// The certificate can't be good for one of these names.
    #[error("names: {names:?} are not all host names or IP addresses: {source}")]
    Names {
        /// As they were configured.
        names: Vec<String>,
        /// Why.
        source: rcgen::Error,
    },
    /// What lies there does not belong together.
    #[error("{0}: ca.pem is not of the key in ca.key (remove both for a new CA)")]
    Strangers(PathBuf),
    /// rustls does not take the certificate.
    #[error("can't use the certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// The CA: its certificate as PEM, and what signs with it.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The CA in `dir`, made there if there is none; one in memory without `dir`.
    pub(crate) fn open(dir: Option<&Path>) -> Result<Self, TlsError> {
        let Some(dir) = dir else { return Self::make() };
        // What is whole needs no lock: the directory may be one that can only be read.
        if let Ok(Some(authority)) = Self::kept(dir) {
            return Ok(authority);
        }
        fs::create_dir_all(dir).map_err(in_file(dir))?;
        // Of several that start in one directory, one makes the CA.
        let lock_path = dir.join("ca.lock");
        let lock = fs::File::create(&lock_path).map_err(in_file(&lock_path))?;
        lock.lock().map_err(in_file(&lock_path))?;
        if let Some(authority) = Self::kept(dir)? {
            return Ok(authority);
        }
        let authority = Self::make()?;
        let (pem_path, key_path) = paths(dir);
        write_private(&key_path, &authority.issuer.key().serialize_pem()).map_err(in_file(&key_path))?;
        fs::write(&pem_path, &authority.pem).map_err(in_file(&pem_path))?;
        Ok(authority)
    }

    fn make() -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let pem = ca_params().self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(ca_params(), key) })
    }

    /// The one whose files are in `dir`, if both are.
    fn kept(dir: &Path) -> Result<Option<Self>, TlsError> {
        let (pem_path, key_path) = paths(dir);
        if !(pem_path.exists() && key_path.exists()) {
            return Ok(None);
        }
        let pem = fs::read_to_string(&pem_path).map_err(in_file(&pem_path))?;
        let key = fs::read_to_string(&key_path).map_err(in_file(&key_path))?;
        let key = KeyPair::from_pem(&key)?;
        if !is_of(&pem, &key) {
            return Err(TlsError::Strangers(dir.to_owned()));
        }
        Ok(Some(Self { pem, issuer: Issuer::new(ca_params(), key) }))
    }

    /// The CA's certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A TLS acceptor with a new server certificate of this CA, which is good for `names` as well.
    pub(crate) fn acceptor(&self, versions: TlsVersions, names: &[String]) -> Result<TlsAcceptor, TlsError> {
        let versions = match versions {
            TlsVersions::Both => rustls::DEFAULT_VERSIONS,
            TlsVersions::Only12 => &ONLY_12,
        };
        let key = KeyPair::generate()?;
        let all = NAMES.into_iter().chain(names.iter().map(String::as_str)).map(str::to_owned);
        let params = CertificateParams::new(all.collect::<Vec<_>>());
        let mut params = params.map_err(|source| TlsError::Names { names: names.to_vec(), source })?;
        params.distinguished_name.push(DnType::CommonName, "sluice-emulator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Where the certificate and the key are.
fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("ca.pem"), dir.join("ca.key"))
}

fn in_file(path: &Path) -> impl FnOnce(io::Error) -> TlsError + use<> {
    let path = path.to_owned();
    move |source| TlsError::File { path, source }
}

/// The CA's parameters. They must never change: a CA that is read back is its key and these.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "sluice-emulator CA");
    params
}

/// Whether a certificate is one of this key: its public key stands in it as it is.
fn is_of(pem: &str, key: &KeyPair) -> bool {
    let public = key.subject_public_key_info();
    CertificateDer::from_pem_slice(pem.as_bytes())
        .is_ok_and(|der| der.windows(public.len()).any(|part| part == public.as_slice()))
}

fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // A file that was there has kept its mode.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_ca_stays_the_same_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(Some(dir.path())).unwrap();
        let second = Authority::open(Some(dir.path())).unwrap();
        assert_eq!(first.pem(), second.pem());
        assert_eq!(first.issuer.key().serialize_der(), second.issuer.key().serialize_der());
        assert_eq!(mode(&dir.path().join("ca.key")), 0o600);
        second.acceptor(TlsVersions::Both, &[]).unwrap();
    }

    #[test]
    fn a_key_file_that_others_could_read_becomes_private() {
        let dir = tempfile::tempdir().unwrap();
        let key_path = dir.path().join("ca.key");
        fs::write(&key_path, "").unwrap();
        fs::set_permissions(&key_path, Permissions::from_mode(0o644)).unwrap();
        Authority::open(Some(dir.path())).unwrap();
        assert_eq!(mode(&key_path), 0o600);
    }

    #[test]
    fn a_name_that_is_none_is_named() {
        let authority = Authority::open(None).unwrap();
        authority.acceptor(TlsVersions::Both, &["emulator.iot.svc".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        let Err(error) = authority.acceptor(TlsVersions::Both, &["sl\u{fc}ice".to_owned()]) else { panic!("taken") };
        assert!(error.to_string().starts_with("names: [\"sl\u{fc}ice\"]"), "{error}");
    }

    #[test]
    fn of_many_that_start_at_once_one_makes_the_ca() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Authority::open(Some(dir.path())).unwrap().pem().to_owned();
        let made: Vec<_> = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..16).map(|_| scope.spawn(open)).collect();
            starting.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(made.iter().all(|pem| *pem == made[0]));
    }

    #[test]
    fn a_certificate_of_another_key_is_not_taken() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::open(Some(dir.path())).unwrap();
        Authority::open(Some(other.path())).unwrap();
        fs::copy(other.path().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
        let Err(error) = Authority::open(Some(dir.path())) else { panic!("it was taken") };
        assert!(error.to_string().contains("ca.pem is not of the key"), "{error}");
    }

    #[test]
    fn a_directory_that_can_t_be_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let Err(error) = Authority::open(Some(&file.path().join("sub"))) else { panic!("there is no such directory") };
        assert!(error.to_string().contains("sub"));
    }
}
