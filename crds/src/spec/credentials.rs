//! Who calls the platform. Here are only names: of Secrets, roles and accounts, never a key.

use serde::Deserialize;

use super::defaults;
use crate::Duration;

/// Who the connections are made as: exactly one of `secretRef`, `assumeRole` and `workloadIdentity`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Credentials {
    /// A Secret with an AccessKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// A RAM role, taken on with an AccessKey. The keys that sign are temporary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,
    /// A RAM role, taken on as a Kubernetes ServiceAccount (RRSA). No long-lived key is in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
    /// The HMAC that signs: `HmacSha256`, `HmacSha1` or `HmacMd5`. Default: `HmacSha256`.
    pub sign_method: SignMethod,
}

/// Who the OpenAPI is called as: exactly one of `secretRef`, `assumeRole` and `workloadIdentity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ApiCredentials {
    /// A Secret with an AccessKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// A RAM role, taken on with an AccessKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,
    /// A RAM role, taken on as a Kubernetes ServiceAccount (RRSA). No long-lived key is in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
}

/// A Secret with an AccessKey: its keys are `accessKeyId`, `accessKeySecret` and, for temporary ones, `securityToken`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// The name of the Secret, in the ConsumerGroup's namespace. Its keys are `accessKeyId`, `accessKeySecret` and, for
    /// temporary ones, `securityToken`; it is read again when it changes. Required.
    pub name: String,
}

/// A RAM role, taken on with an AccessKey (STS `AssumeRole`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AssumeRole {
    /// The Secret with the AccessKey that may take the role on. Required.
    pub secret_ref: SecretReference,
    /// The role, such as `acs:ram::1234567890123456:role/iot-consumer`. Required.
    pub role_arn: String,
    /// The name that the platform's audit log shows, 2 to 64 letters, digits, `.`, `@`, `_` and `-`. Default: a name made
    /// of the ConsumerGroup's namespace and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// The external ID that the role's trust policy asks for, 2 to 1224 characters. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// How long the temporary keys last, 15m to 12h, and at most what the role allows. They are renewed in time.
    /// Default: 1h.
    #[serde(default = "duration")]
    pub duration: Duration,
}

/// A RAM role, taken on as a Kubernetes ServiceAccount (RRSA, STS `AssumeRoleWithOIDC`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// The role, such as `acs:ram::1234567890123456:role/iot-consumer`. Required.
    pub role_arn: String,
    /// The identity provider that RAM knows this cluster as, such as
    /// `acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1234`. Required.
    #[serde(rename = "oidcProviderArn")]
    pub oidc_provider_arn: String,
    /// The ServiceAccount in the ConsumerGroup's namespace that the role trusts. Required.
    pub service_account_name: String,
}

/// The HMACs that the platform takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
pub enum SignMethod {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-1.
    HmacSha1,
    /// HMAC with MD5.
    HmacMd5,
}

/// The one place that keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialSource<'a> {
    /// An AccessKey in a Secret.
    Secret(&'a SecretReference),
    /// A role, taken on with an AccessKey.
    AssumeRole(&'a AssumeRole),
    /// A role, taken on as a ServiceAccount.
    WorkloadIdentity(&'a WorkloadIdentity),
}

impl<'a> CredentialSource<'a> {
    /// The one of the three that is given; `None` if none or several are, which a valid document in a cluster never has.
    fn only(
        secret: Option<&'a SecretReference>,
        role: Option<&'a AssumeRole>,
        identity: Option<&'a WorkloadIdentity>,
    ) -> Option<Self> {
        match (secret, role, identity) {
            (Some(secret), None, None) => Some(Self::Secret(secret)),
            (None, Some(role), None) => Some(Self::AssumeRole(role)),
            (None, None, Some(identity)) => Some(Self::WorkloadIdentity(identity)),
            _ => None,
        }
    }
}

impl Credentials {
    /// Where the keys come from; `None` if not exactly one place is named.
    pub fn source(&self) -> Option<CredentialSource<'_>> {
        CredentialSource::only(self.secret_ref.as_ref(), self.assume_role.as_ref(), self.workload_identity.as_ref())
    }
}

impl ApiCredentials {
    /// Where the keys come from; `None` if not exactly one place is named.
    pub fn source(&self) -> Option<CredentialSource<'_>> {
        CredentialSource::only(self.secret_ref.as_ref(), self.assume_role.as_ref(), self.workload_identity.as_ref())
    }
}

fn duration() -> Duration {
    defaults::ROLE_DURATION
}

impl Default for Credentials {
    fn default() -> Self {
        Self { secret_ref: None, assume_role: None, workload_identity: None, sign_method: defaults::SIGN_METHOD }
    }
}
