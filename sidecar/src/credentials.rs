//! Where the sidecar's `AccessKey` comes from when it signs for itself: the environment, or a directory of files, as a
//! Kubernetes Secret is mounted. It is read anew for every attempt to connect, so a rotated key is taken up by itself.
//! Nothing here keeps a key.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use sluice_cloud::credentials::{AccessKey, AccessKeyError};
use sluice_cloud::secret::SecretString;
use sluice_cloud::sign::SignMethod;

const ID_VARIABLE: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const SECRET_VARIABLE: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN_VARIABLE: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

const ID_FILE: &str = "accessKeyId";
const SECRET_FILE: &str = "accessKeySecret";
const TOKEN_FILE: &str = "securityToken";

/// How often a directory is read again because it was replaced meanwhile.
const DIRECTORY_ATTEMPTS: usize = 5;

/// A source of credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET` and, for a temporary key,
    /// `ALIBABA_CLOUD_SECURITY_TOKEN`. A variable that is empty counts as not set.
    Environment,
    /// A directory with the files `accessKeyId`, `accessKeySecret` and, for a temporary key, `securityToken`. Line ends
    /// at their end don't count. To rotate a key of several files, replace the directory as a whole (a symbolic link, or
    /// `..data` within it, as Kubernetes does it): then never is one key's ID read with another's secret.
    Directory(PathBuf),
}

/// Why there are no credentials. No variant holds a part of a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A variable that must be set is not.
    #[error(
        "{0} is not set or is empty; set {ID_VARIABLE} and {SECRET_VARIABLE} (and {TOKEN_VARIABLE} for a temporary \
         AccessKey), or name a directory with --credentials-dir"
    )]
    VariableMissing(&'static str),
    /// A variable is no text.
    #[error("{0} is not valid UTF-8; set it to the text that the platform's console shows")]
    VariableNotText(&'static str),
    /// A file or the directory can't be read.
    #[error(
        "cannot read {path}: {cause}; --credentials-dir needs the files {ID_FILE} and {SECRET_FILE} (and {TOKEN_FILE} \
         for a temporary AccessKey), readable to this process"
    )]
    FileUnreadable {
        /// The file, or the directory.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The directory was replaced again and again while it was read.
    #[error("{0} changes faster than it can be read; check what writes it")]
    DirectoryChanging(PathBuf),
    /// They were found, but no `AccessKey` looks like that.
    #[error("the AccessKey from {origin} can't be used: {cause}; copy it again from where it was issued")]
    Invalid {
        /// The variables' common name, or the directory.
        origin: String,
        /// What is wrong with it.
        cause: AccessKeyError,
    },
}

impl Credentials {
    /// The credentials as they are now. This reads a few small files, and does not wait for anything else.
    pub fn current(&self) -> Result<AccessKey, CredentialsError> {
        match self {
            Self::Environment => from_variables(std::env::var_os),
            Self::Directory(directory) => from_directory(directory),
        }
    }
}

fn from_variables(lookup: impl Fn(&'static str) -> Option<OsString>) -> Result<AccessKey, CredentialsError> {
    let optional = |name| match lookup(name).filter(|value| !value.is_empty()) {
        Some(value) => value.into_string().map(Some).map_err(|_| CredentialsError::VariableNotText(name)),
        None => Ok(None),
    };
    let required = |name| optional(name)?.ok_or(CredentialsError::VariableMissing(name));

    let id = required(ID_VARIABLE)?;
    let secret = required(SECRET_VARIABLE)?.into();
    let token = optional(TOKEN_VARIABLE)?.map(SecretString::new);
    AccessKey::try_new(id, secret, token)
        .map_err(|cause| CredentialsError::Invalid { origin: "the environment (ALIBABA_CLOUD_…)".to_owned(), cause })
}

fn from_directory(directory: &Path) -> Result<AccessKey, CredentialsError> {
    for _ in 0..DIRECTORY_ATTEMPTS {
        let Ok(version) = current_version(directory) else { continue };
        let read = read_version(directory, &version);
        // What was read of a version that has gone meanwhile may lack a file, a token say, that it had.
        if current_version(directory).is_ok_and(|now| now == version) {
            return read;
        }
    }
    match current_version(directory) {
        Ok(_) => Err(CredentialsError::DirectoryChanging(directory.to_owned())),
        Err(cause) => Err(CredentialsError::FileUnreadable { path: directory.to_owned(), cause }),
    }
}

/// The directory that the files are really in. The kubelet puts each version of a Secret into a directory of its own, and
/// turns the link `..data` from one to the next; between two looks at a link its target may be gone.
fn current_version(directory: &Path) -> io::Result<PathBuf> {
    let data = directory.join("..data");
    match std::fs::symlink_metadata(&data) {
        Ok(_) => std::fs::canonicalize(data),
        Err(_) => std::fs::canonicalize(directory),
    }
}

fn read_version(directory: &Path, version: &Path) -> Result<AccessKey, CredentialsError> {
    let read = |name| {
        read_trimmed(&version.join(name))
            .map_err(|cause| CredentialsError::FileUnreadable { path: directory.join(name), cause })
    };
    let id = read(ID_FILE)?;
    let secret = read(SECRET_FILE)?;
    let token = match read(TOKEN_FILE) {
        Ok(token) => Some(token).filter(|token| !token.is_empty()),
        Err(CredentialsError::FileUnreadable { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    AccessKey::try_new(id.expose(), secret, token)
        .map_err(|cause| CredentialsError::Invalid { origin: directory.display().to_string(), cause })
}

/// The file's text without the line ends that editors and `echo` put at its end.
fn read_trimmed(path: &Path) -> io::Result<SecretString> {
    let mut text = std::fs::read_to_string(path)?;
    // In place: a copy would leave the secret in memory that nobody clears.
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(SecretString::new(text))
}

/// The platform's name for the document's sign method.
pub fn sign_method(method: sluice_crds::SignMethod) -> SignMethod {
    match method {
        sluice_crds::SignMethod::HmacSha256 => SignMethod::HmacSha256,
        sluice_crds::SignMethod::HmacSha1 => SignMethod::HmacSha1,
        sluice_crds::SignMethod::HmacMd5 => SignMethod::HmacMd5,
    }
}

#[cfg(test)]
mod tests;
