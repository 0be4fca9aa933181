//! What can't be, said in words; and what can, in a form that later steps need not doubt.

use std::sync::Arc;

use sluice_cloud::endpoint::{Endpoint, EndpointPolicy};
use sluice_crds::status::Reason;
use sluice_crds::{ConsumerGroup, ConsumerGroupSpec, TargetReference};

use super::dereference::World;
use crate::credentials::{Handle, SourceError};
use crate::slots::{GroupRef, PlatformGroup};

/// A ConsumerGroup that can be carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// Which one.
    pub name: GroupRef,
    /// The UID of the object.
    pub uid: String,
    /// The generation that this is of.
    pub generation: i64,
    /// The platform's group that it consumes.
    pub platform: PlatformGroup,
    /// What it wants. Every value has been checked.
    pub spec: Arc<ConsumerGroupSpec>,
    /// Where links go to. An allowed endpoint.
    pub amqp: Endpoint,
    /// Where the OpenAPI is; `None` if the object does not say. An allowed endpoint.
    pub api: Option<Endpoint>,
    /// The certificates to trust at all of its endpoints, in PEM; `None`: the well-known ones.
    pub ca: Option<Arc<str>>,
    /// The keys that links are signed with.
    pub link_keys: Handle,
    /// The keys that the OpenAPI is called with.
    pub api_keys: Handle,
    /// What is scaled.
    pub target: Option<TargetReference>,
}

/// Something that can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The reason, for a condition.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub words: String,
    /// It may go away without the object being changed: what was known of the group before still holds.
    pub passing: bool,
}

impl Problem {
    fn lasting(reason: Reason, words: impl Into<String>) -> Self {
        Self { reason, words: words.into(), passing: false }
    }
}

/// Checks an object, with what it names at hand. All that is wrong is found at once.
pub fn validate(object: &ConsumerGroup, world: &World, allowed: &EndpointPolicy) -> Result<Validated, Vec<Problem>> {
    let mut problems = Vec::new();
    if let Err(violations) = object.validate() {
        problems.extend(violations.0.iter().map(|violation| Problem::lasting(Reason::Invalid, violation.to_string())));
    }
    let instance = &object.spec.instance;
    let mut endpoint = |field: &str, text: &str, port: u16| match Endpoint::parse(text, port) {
        Ok(endpoint) => match allowed.check(&endpoint) {
            Ok(()) => Some(endpoint),
            Err(error) => {
                problems.push(Problem::lasting(Reason::EndpointNotAllowed, format!("spec.instance.{field}: {error}")));
                None
            }
        },
        Err(error) => {
            problems.push(Problem::lasting(Reason::Invalid, format!("spec.instance.{field}: {error}")));
            None
        }
    };
    let amqp = endpoint("amqpHost", &bracketed(&instance.amqp_host), instance.amqp_port);
    let openapi = instance.region.as_ref().map(|region| format!("iot.{region}.aliyuncs.com"));
    let openapi = instance.api_endpoint.clone().or(openapi);
    let api = openapi.and_then(|text| endpoint("apiEndpoint", &text, Endpoint::HTTPS));
    let keys = [("credentials", &world.link_keys), ("apiCredentials", &world.api_keys)];
    let [link_keys, api_keys] = keys.map(|(field, keys)| match keys {
        Ok(keys) => {
            if let Some(sts) = keys.source().endpoint()
                && let Err(error) = allowed.check_sts(sts)
            {
                problems.push(Problem::lasting(Reason::EndpointNotAllowed, format!("spec.{field}: STS: {error}")));
            }
            Some(keys.clone())
        }
        // Why there are no certificates is said below.
        Err(SourceError::Untrusted) => None,
        Err(error) => {
            let reason = match error {
                SourceError::NotAllowed(_) => Reason::EndpointNotAllowed,
                _ => Reason::Invalid,
            };
            problems.push(Problem::lasting(reason, format!("spec.{field}: {error}")));
            None
        }
    });
    let ca = match &world.ca {
        Ok(ca) => ca.clone(),
        Err(missing) => {
            let words = format!("spec.instance.caBundle: {}", missing.words);
            problems.push(Problem { reason: Reason::CaBundleInvalid, words, passing: missing.passing });
            None
        }
    };
    let platform = platform_group(&object.spec);
    if platform.is_none() {
        let words = "spec.instance names neither id nor accountId: client slots are counted per instance and group";
        problems.push(Problem::lasting(Reason::Invalid, words));
    }
    // What is said twice, by the rules and by the parsers above, is shown once.
    problems.dedup();
    match (platform, amqp, link_keys, api_keys) {
        (Some(platform), Some(amqp), Some(link_keys), Some(api_keys)) if problems.is_empty() => Ok(Validated {
            name: world.name.clone(),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            platform,
            spec: Arc::new(object.spec.clone()),
            amqp,
            api,
            ca,
            link_keys,
            api_keys,
            target: object.spec.workload.as_ref().map(|workload| workload.target_ref.clone()),
        }),
        _ => Err(problems),
    }
}

/// Which group of the platform is meant: an instance without an ID is the account's only one.
fn platform_group(spec: &ConsumerGroupSpec) -> Option<PlatformGroup> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let instance = given(&spec.instance.id).or_else(|| given(&spec.instance.account_id))?;
    Some(PlatformGroup { instance, group_id: spec.group_id.clone() })
}

/// An IPv6 address as endpoints spell it.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests;
