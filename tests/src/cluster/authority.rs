//! The certificates of one cluster: its authority, the API server's, and one for everyone who logs in with a
//! certificate.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// How someone logs in.
#[derive(Debug)]
pub(super) enum Login<'a> {
    Certificate(&'a Identity),
    Token(&'a str),
}

/// The authority of one cluster, its files in the cluster's directory.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    directory: PathBuf,
}

impl Authority {
    /// Makes a new one, and its files in `directory`.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "sluice-test-cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        fs::write(directory.join("ca.pem"), &certificate)?;
        fs::write(directory.join("ca.key"), key.serialize_pem())?;
        Ok(Self { issuer: Issuer::new(params, key), certificate, directory: directory.to_owned() })
    }

    /// The file `name` beside the authority's own.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The authority's certificate, in PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Writes `NAME.pem` and `NAME.key`: a server's certificate for loopback and the names of the API server.
    pub(super) fn write_server(&self, name: &str) -> Result<()> {
        let names =
            ["127.0.0.1", "10.96.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let mut params = CertificateParams::new(names.map(str::to_owned))?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.write(name, &self.sign(&params)?)
    }

    /// A certificate that logs `user` in, as a member of `group`.
    pub(super) fn client(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// Writes `NAME.key` and `NAME.pub`: what service account tokens are signed with.
    pub(super) fn write_signing_key(&self, name: &str) -> Result<()> {
        let key = KeyPair::generate()?;
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem())?;
        fs::write(self.file(&format!("{name}.pub")), key.public_key_pem())?;
        Ok(())
    }

    fn sign(&self, params: &CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }

    fn write(&self, name: &str, identity: &Identity) -> Result<()> {
        fs::write(self.file(&format!("{name}.pem")), &identity.certificate)?;
        fs::write(self.file(&format!("{name}.key")), &identity.key)?;
        Ok(())
    }

    /// The kubeconfig of someone who talks to `server`. JSON is YAML.
    pub(super) fn kubeconfig(&self, server: &str, login: &Login<'_>, namespace: &str) -> Value {
        let user = match login {
            Login::Certificate(identity) => json!({
                "client-certificate-data": BASE64.encode(&identity.certificate),
                "client-key-data": BASE64.encode(&identity.key),
            }),
            Login::Token(token) => json!({"token": token}),
        };
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": server,
                "certificate-authority-data": BASE64.encode(&self.certificate),
            }}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
            "current-context": "test",
        })
    }
}
