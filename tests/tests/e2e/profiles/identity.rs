//! Who a sidecar is on the platform: an `AccessKey`, or a temporary one that comes from the token service and is renewed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::rpc::{Call, Nonce, Params};
use sluice_cloud::secret::SecretString;
use sluice_emulator::{Profile, SaslFrame, StsKey};
use sluice_tests::emulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator};
use tempfile::TempDir;

/// The role, and whom it trusts: part of the emulator's configuration.
pub(super) const ROLES: &str =
    "[{arn: 'acs:ram::1000000000000001:role/sluice', trust: {accounts: ['1000000000000001']}}]";

/// A directory with credentials that are renewed as a whole, as the kubelet does it.
#[derive(Debug)]
pub(super) struct Identity {
    profile: Profile,
    home: TempDir,
    versions: u32,
    /// The temporary key's ID, if there is one.
    temporary: Option<String>,
}

impl Identity {
    pub(super) fn new(emulator: &Emulator, profile: Profile) -> Result<Self> {
        let mut identity = Self { profile, home: tempfile::tempdir()?, versions: 0, temporary: None };
        identity.renew(emulator)?;
        Ok(identity)
    }

    /// The directory.
    pub(super) fn directory(&self) -> PathBuf {
        self.home.path().join("now")
    }

    /// Replaces the credentials, and returns the ID of the temporary key that is needed no more, if there was one.
    pub(super) fn renew(&mut self, emulator: &Emulator) -> Result<Option<String>> {
        // A token does not fit into 512 bytes: nobody could come in with one.
        let tokens = self.profile.sasl_frame == SaslFrame::AnySize;
        let issued = tokens.then(|| assume_role(emulator)).transpose()?;
        let version = self.home.path().join(self.versions.to_string());
        self.versions += 1;
        fs::create_dir(&version)?;
        let owner = [("accessKeyId", ACCESS_KEY_ID), ("accessKeySecret", ACCESS_KEY_SECRET)];
        match &issued {
            Some([id, secret, token]) => {
                let temporary = [("accessKeyId", id.as_str()), ("accessKeySecret", secret.as_str())];
                write(&version, if self.profile.sts_key == StsKey::Owner { owner } else { temporary })?;
                write(&version, [("securityToken", token.as_str())])?;
            }
            None => write(&version, owner)?,
        }
        let link = self.home.path().join("next");
        symlink(&version, &link)?;
        fs::rename(&link, self.directory())?;
        Ok(std::mem::replace(&mut self.temporary, issued.map(|[id, ..]| id)))
    }
}

fn write<'a>(directory: &Path, files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
    files.into_iter().try_for_each(|(name, text)| Ok(fs::write(directory.join(name), text)?))
}

/// A temporary key: its ID, its secret, and the token that goes with it.
fn assume_role(emulator: &Emulator) -> Result<[String; 3]> {
    let params =
        Params::new().with("RoleArn", "acs:ram::1000000000000001:role/sluice").with("RoleSessionName", "profiles");
    let call = Call { action: "AssumeRole", version: "2015-04-01", params };
    let key = AccessKey::try_new(ACCESS_KEY_ID, SecretString::new(ACCESS_KEY_SECRET), None)?;
    let signed = call.signed("GET", &key, Timestamp::now(), &Nonce::from_bits(rand::random()));
    let url = format!("http://{}/?{}", emulator.api(), signed.encode().expose());
    let mut answer = ureq::get(url).call().context("the token service does not answer")?;
    let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
    let part = |name: &str| {
        let part = answer["Credentials"][name].as_str().map(str::to_owned);
        part.with_context(|| format!("the token service gave no {name}"))
    };
    Ok([part("AccessKeyId")?, part("AccessKeySecret")?, part("SecurityToken")?])
}
