//! Where keys come from, by name. Two ConsumerGroups that name the same place share what comes from it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sluice_cloud::endpoint::{Endpoint, EndpointError};
use sluice_cloud::sts::{RoleArn, SessionDuration, SessionName, StsError};
use sluice_crds::{AssumeRole, CredentialSource, Instance, WorkloadIdentity};

/// Something of a name in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A place that keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A Secret with an AccessKey.
    Secret(Named),
    /// A role, taken on with the AccessKey of a Secret.
    AssumeRole {
        /// The Secret.
        secret: Named,
        /// The role.
        role: Role,
        /// What the role's trust policy asks for.
        external_id: Option<String>,
    },
    /// A role, taken on as a ServiceAccount.
    WorkloadIdentity {
        /// The ServiceAccount.
        account: Named,
        /// The role.
        role: Role,
        /// The identity provider that RAM knows the cluster as.
        provider_arn: String,
    },
}

/// A role, and how it is taken on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Role {
    /// Which one.
    pub arn: RoleArn,
    /// What the session is called in the account's audit log.
    pub session: SessionName,
    /// How long the keys last, in seconds.
    pub seconds: u64,
    /// Where to ask for them.
    pub sts: Endpoint,
    /// The certificates to trust there, in place of the well-known ones.
    pub ca: Option<Arc<str>>,
}

/// Why a place can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// None is named, or several are.
    #[error("name exactly one of secretRef, assumeRole and workloadIdentity")]
    NotOne,
    /// A role or its session.
    #[error(transparent)]
    Role(#[from] StsError),
    /// The endpoint of STS is none.
    #[error("stsEndpoint: {0}")]
    Endpoint(#[from] EndpointError),
    /// Nothing may be sent to the endpoint of STS.
    #[error("STS: {0}")]
    NotAllowed(#[source] EndpointError),
    /// It is not known whom to trust at the endpoint of STS, so nothing is sent there.
    #[error("the certificates to trust at STS are missing")]
    Untrusted,
}

impl Source {
    /// The place that a ConsumerGroup of this namespace and name means. `ca` is for STS.
    pub fn of(
        namespace: &str,
        name: &str,
        instance: &Instance,
        source: Option<CredentialSource<'_>>,
        ca: Option<&Arc<str>>,
    ) -> Result<Self, SourceError> {
        let named = |name: &str| Named { namespace: namespace.to_owned(), name: name.to_owned() };
        match source.ok_or(SourceError::NotOne)? {
            CredentialSource::Secret(secret) => Ok(Self::Secret(named(&secret.name))),
            CredentialSource::AssumeRole(AssumeRole { secret_ref, role_arn, session_name, external_id, duration }) => {
                let session = session_name.clone().unwrap_or_else(|| session_of(namespace, name));
                let role = Role::of(role_arn, session, duration.get(), instance, ca)?;
                Ok(Self::AssumeRole { secret: named(&secret_ref.name), role, external_id: external_id.clone() })
            }
            CredentialSource::WorkloadIdentity(WorkloadIdentity {
                role_arn,
                oidc_provider_arn,
                service_account_name,
            }) => {
                let duration = SessionDuration::default().get();
                let role = Role::of(role_arn, session_of(namespace, name), duration, instance, ca)?;
                let provider_arn = oidc_provider_arn.clone();
                Ok(Self::WorkloadIdentity { account: named(service_account_name), role, provider_arn })
            }
        }
    }

    /// Where keys or tokens are sent to get these: nowhere for a Secret.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Secret(_) => None,
            Self::AssumeRole { role, .. } | Self::WorkloadIdentity { role, .. } => Some(&role.sts),
        }
    }

    /// The kind of place, as metrics spell it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Secret(_) => "secret",
            Self::AssumeRole { .. } => "assume_role",
            Self::WorkloadIdentity { .. } => "workload_identity",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(secret) => write!(f, "Secret {secret}"),
            Self::AssumeRole { role, secret, .. } => write!(f, "role {} with Secret {secret}", role.arn),
            Self::WorkloadIdentity { role, account, .. } => write!(f, "role {} as ServiceAccount {account}", role.arn),
        }
    }
}

impl Role {
    fn of(
        arn: &str,
        session: String,
        duration: Duration,
        instance: &Instance,
        ca: Option<&Arc<str>>,
    ) -> Result<Self, SourceError> {
        let given = instance.sts_endpoint.clone();
        let sts = given.unwrap_or_else(|| match &instance.region {
            Some(region) => sluice_cloud::sts::host(region, false),
            None => "sts.aliyuncs.com".to_owned(),
        });
        Ok(Self {
            arn: RoleArn::try_new(arn)?,
            session: SessionName::try_new(session)?,
            seconds: SessionDuration::try_new(duration)?.get().as_secs(),
            sts: Endpoint::parse(&sts, Endpoint::HTTPS)?,
            ca: ca.cloned(),
        })
    }
}

/// A session's name has 2 to 64 characters of letters, digits and `.@-_` (`PLATFORM.md 4.3`): those of a namespace and a
/// name are among them.
fn session_of(namespace: &str, name: &str) -> String {
    let mut session = format!("sluice_{namespace}_{name}");
    session.truncate(64);
    session
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sluice_crds::Credentials;

    use super::*;

    fn source(credentials: Value, instance: Value) -> Result<Source, SourceError> {
        let credentials = serde_json::from_value::<Credentials>(credentials).unwrap();
        let mut full = json!({"amqpHost": "h"});
        let Value::Object(instance) = instance else { panic!("no object") };
        full.as_object_mut().unwrap().extend(instance);
        let instance: Instance = serde_json::from_value(full).unwrap();
        Source::of("plant-a", "telemetry", &instance, credentials.source(), None)
    }

    #[test]
    fn each_place_is_known_by_its_names() {
        let secret = source(json!({"secretRef": {"name": "keys"}}), json!({})).unwrap();
        assert_eq!(secret.to_string(), "Secret plant-a/keys");
        assert_eq!(secret.endpoint(), None);
        let arn = "acs:ram::1234567890123456:role/iot";
        let role = json!({"assumeRole": {"secretRef": {"name": "keys"}, "roleArn": arn}});
        let role = source(role, json!({"region": "cn-shanghai"})).unwrap();
        assert_eq!(role.endpoint().unwrap().to_string(), "sts.cn-shanghai.aliyuncs.com:443");
        assert!(
            matches!(&role, Source::AssumeRole { role, .. } if role.session.as_str() == "sluice_plant-a_telemetry")
        );
        let identity = json!({"workloadIdentity": {
            "roleArn": arn, "oidcProviderArn": "acs:ram::1234567890123456:oidc-provider/c", "serviceAccountName": "iot",
        }});
        let identity = source(identity, json!({"stsEndpoint": "127.0.0.1:8443"})).unwrap();
        assert_eq!(identity.to_string(), format!("role {arn} as ServiceAccount plant-a/iot"));
        assert_eq!(identity.endpoint().unwrap().to_string(), "127.0.0.1:8443");
    }

    #[test]
    fn a_place_that_can_t_be_is_refused_with_a_reason() {
        assert_eq!(source(json!({}), json!({})), Err(SourceError::NotOne));
        let role = json!({"assumeRole": {"secretRef": {"name": "keys"}, "roleArn": "role/iot"}});
        assert!(source(role, json!({})).unwrap_err().to_string().contains("acs:ram::"));
        let role = json!({"assumeRole": {"secretRef": {"name": "k"}, "roleArn": "acs:ram::1:role/r"}});
        assert!(matches!(source(role, json!({"stsEndpoint": "http://x"})), Err(SourceError::Endpoint(_))));
    }

    #[test]
    fn a_long_name_still_names_a_session() {
        assert!(SessionName::try_new(session_of(&"n".repeat(63), &"m".repeat(253))).is_ok());
    }
}
