//! Finds what a ConsumerGroup names: keys, certificates, the workload and its pods, and what other rooms know of it. Reads,
//! and decides nothing: what is missing is passed on as missing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::discovery::oneshot;
use sluice_cloud::client::check_bundle;
use sluice_cloud::endpoint::EndpointPolicy;
use sluice_crds::{CaBundle, ConsumerGroup, TargetReference};

use super::contest::{Contest, Contests};
use super::pods::{Pod, Pods};
use super::revision::{self, Revisions};
use super::view::{Broker, Platform, PlatformGroup, Sidecars};
use crate::credentials::{Handle, Keeper, Source, SourceError, Standing};
use crate::fault::{Class, Fault, bounded};
use crate::metrics::Metrics;
use crate::slots::{GroupRef, Revision};
use crate::time::Time;

/// How old what was read of a workload may be when nothing speaks for a change of it.
const TARGET_FRESH: Duration = Duration::from_secs(60);
/// The same of one that was missing: somebody is about to create it.
const MISSING_FRESH: Duration = Duration::from_secs(15);
/// The same of a ConfigMap: nothing tells of its changes.
const CA_FRESH: Duration = Duration::from_secs(60);

/// All that was found.
#[derive(Debug, Clone)]
pub struct World {
    /// Of which ConsumerGroup.
    pub name: GroupRef,
    /// The keys for links.
    pub link_keys: Result<Handle, SourceError>,
    /// The keys for the OpenAPI: the same ones, unless the object says otherwise.
    pub api_keys: Result<Handle, SourceError>,
    /// How the keys are doing.
    pub standings: Standings,
    /// The certificates to trust.
    pub ca: Certificates,
    /// The workload; `None` if the object names none.
    pub target: Option<Target>,
    /// Whether somebody else drives the workload.
    pub contest: Contest,
    /// The pods with its label.
    pub pods: Vec<Arc<Pod>>,
    /// The revision that is rolled out; `None` if that is not known.
    pub newest: Option<Revision>,
    /// What the broker knows.
    pub sidecars: Option<Sidecars>,
    /// What the platform's poller knows.
    pub platform: Option<PlatformGroup>,
}

/// How the keys are doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standings {
    /// Those for links.
    pub link: Standing,
    /// Those for the OpenAPI, if they are others.
    pub api: Option<Standing>,
}

/// The certificates to trust, in PEM; none: the well-known ones.
pub type Certificates = Result<Option<Arc<str>>, Missing>;

/// Something that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What, and what to do.
    pub words: String,
    /// It may come without the object being changed.
    pub passing: bool,
}

/// A workload, as far as it could be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// It has a `/scale`.
    Found(Scale),
    /// There is no such object.
    NotFound,
    /// There is no such kind, or it has no `/scale`.
    NotScalable(String),
    /// It could not be found out.
    Unknown(Fault),
}

/// What a workload's `/scale` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// The pods that it should have.
    pub wanted: u32,
    /// The pods that it has.
    pub present: u32,
    /// The resource version, for a write that must not undo somebody else's.
    pub version: String,
}

/// What is remembered of one ConsumerGroup between two runs, so that not everything is read every time.
#[derive(Debug, Default)]
pub struct Recall {
    target: Option<(TargetReference, Target, Time)>,
    ca: Option<(String, Certificates, Time)>,
    revisions: Revisions,
}

impl Recall {
    /// What was read of the workload is out of date.
    pub fn forget_target(&mut self) {
        self.target = None;
    }
}

/// Where things are found.
#[derive(Clone)]
pub struct Sources {
    /// The API server.
    pub client: Client,
    /// The keys.
    pub keeper: Keeper,
    /// The pods.
    pub pods: Pods,
    /// The autoscalers of others.
    pub contests: Contests,
    /// What the broker knows, if there is one.
    pub broker: Option<Arc<dyn Broker>>,
    /// What the platform's poller knows, if there is one.
    pub platform: Option<Arc<dyn Platform>>,
    /// Counts failed requests.
    pub metrics: Metrics,
    /// Kinds that were looked up.
    pub kinds: Kinds,
}

impl Sources {
    /// Finds what `object` names. Fails if the API server did not say what nothing can be said without, and nothing is
    /// remembered of it either: then all stays as it is.
    pub async fn dereference(
        &self,
        name: &GroupRef,
        object: &ConsumerGroup,
        recall: &mut Recall,
        at: Time,
    ) -> Result<World, Fault> {
        let spec = &object.spec;
        let ca = self.ca(name, spec.instance.ca_bundle.as_ref(), recall, at).await?;
        let trusted = ca.as_ref().ok().and_then(Option::as_ref);
        let keys = |source| {
            let source = Source::of(&name.namespace, &name.name, &spec.instance, source, trusted)?;
            // To hold it is to have it asked for keys.
            may_be_asked(&source, &ca, self.keeper.clients().policy())?;
            Ok(self.keeper.hold(&source))
        };
        let link_keys: Result<Handle, SourceError> = keys(spec.credentials.source());
        let api_keys = spec.api_credentials.as_ref().map_or_else(|| link_keys.clone(), |api| keys(api.source()));
        let standing = |keys: &Result<Handle, _>| keys.as_ref().map_or(Standing::Pending, Handle::standing);
        let standings =
            Standings { link: standing(&link_keys), api: (api_keys != link_keys).then(|| standing(&api_keys)) };
        let target = match &spec.workload {
            Some(workload) => Some(self.target(name, &workload.target_ref, recall, at).await),
            None => None,
        };
        let pods = self.pods.of(name);
        let newest = recall.revisions.newest(&self.client, &self.metrics, &name.namespace, &pods, at).await;
        Ok(World {
            link_keys,
            api_keys,
            standings,
            ca,
            contest: spec.workload.as_ref().map_or(Contest::None, |w| self.contests.of(&name.namespace, &w.target_ref)),
            target,
            pods,
            newest,
            sidecars: self.broker.as_ref().and_then(|broker| broker.sidecars(name)),
            platform: self.platform.as_ref().and_then(|platform| platform.group(name)),
            name: name.clone(),
        })
    }

    async fn ca(
        &self,
        name: &GroupRef,
        bundle: Option<&CaBundle>,
        recall: &mut Recall,
        at: Time,
    ) -> Result<Certificates, Fault> {
        let reference = match bundle {
            None => return Ok(Ok(None)),
            Some(CaBundle::Pem(text)) => return Ok(certificates(text, "pem", false)),
            // Refused by validation too; it is a file of some other machine.
            Some(CaBundle::File(_)) => {
                let words = "file is for a sidecar without a cluster: use configMapKeyRef or pem".to_owned();
                return Ok(Err(Missing { words, passing: false }));
            }
            Some(CaBundle::ConfigMapKeyRef(reference)) => reference,
        };
        let place = format!("{}/{}", reference.name, reference.key);
        if let Some((known, found, read)) = &recall.ca
            && *known == place
            && at.since(*read) < CA_FRESH
        {
            return Ok(found.clone());
        }
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &name.namespace);
        let answer = bounded(maps.get_opt(&reference.name)).await;
        let missing = |words: String| Err(Missing { words, passing: true });
        let found = match answer {
            Ok(Some(map)) => match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
                Some(text) => {
                    let place = format!("key {} of ConfigMap {}", reference.key, reference.name);
                    certificates(text, &place, true)
                }
                None => missing(format!("ConfigMap {} has no key {}: add it", reference.name, reference.key)),
            },
            Ok(None) => missing(format!("ConfigMap {} does not exist: create it", reference.name)),
            Err(error) => {
                let error = self.failed(error);
                // What was known still counts while the API server is away.
                match &recall.ca {
                    Some((known, found, _)) if *known == place && error.class == Class::Unavailable => found.clone(),
                    _ if error.class == Class::Unavailable => return Err(error),
                    _ => return Ok(missing(format!("ConfigMap {} can't be read: {error}", reference.name))),
                }
            }
        };
        recall.ca = Some((place, found.clone(), at));
        Ok(found)
    }

    async fn target(&self, name: &GroupRef, reference: &TargetReference, recall: &mut Recall, at: Time) -> Target {
        let fresh = |found: &Target| if matches!(found, Target::Found(_)) { TARGET_FRESH } else { MISSING_FRESH };
        if let Some((known, found, read)) = &recall.target
            && known == reference
            && at.since(*read) < fresh(found)
        {
            return found.clone();
        }
        let found = self.read_target(name, reference).await;
        recall.target = match &found {
            Target::Unknown(_) => None,
            found => Some((reference.clone(), found.clone(), at)),
        };
        found
    }

    async fn read_target(&self, name: &GroupRef, reference: &TargetReference) -> Target {
        let resource = match self.kinds.resolve(&self.client, reference).await {
            Ok(Some(resource)) => resource,
            Ok(None) => {
                let words = format!("there is no kind {} with a /scale in {}", reference.kind, reference.api_version);
                return Target::NotScalable(words);
            }
            Err(error) => return Target::Unknown(self.failed(error)),
        };
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &name.namespace, &resource);
        match bounded(api.get_scale(&reference.name)).await {
            Ok(scale) => {
                let count = |number: Option<i32>| number.and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
                Target::Found(Scale {
                    wanted: count(scale.spec.and_then(|spec| spec.replicas)),
                    present: count(scale.status.map(|status| status.replicas)),
                    version: scale.metadata.resource_version.unwrap_or_default(),
                })
            }
            Err(error) => match self.failed(error) {
                fault if fault.class == Class::NotFound => Target::NotFound,
                fault => Target::Unknown(fault),
            },
        }
    }

    fn failed(&self, fault: Fault) -> Fault {
        self.metrics.api_error(fault.class);
        fault
    }
}

/// Kinds that were looked up with the API server, which knows how they are spelt in a path.
#[derive(Debug, Clone, Default)]
pub struct Kinds(Arc<Mutex<HashMap<(String, String), ApiResource>>>);

impl Kinds {
    /// How the kind of a workload is asked for; `None` if the API server does not know it, or it has no `/scale`.
    pub async fn resolve(&self, client: &Client, reference: &TargetReference) -> Result<Option<ApiResource>, Fault> {
        let key = (reference.api_version.clone(), reference.kind.clone());
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(known.clone()));
        }
        let (group, version) = key.0.split_once('/').unwrap_or(("", key.0.as_str()));
        let kind = GroupVersionKind::gvk(group, version, &key.1);
        let found = if let Some(known) = revision::well_known(&key.0, &key.1) {
            known
        } else {
            let scalable = async {
                match oneshot::pinned_kind(client, &kind).await {
                    Ok((resource, able)) if able.subresources.iter().any(|(sub, _)| is_scale(&sub.plural)) => {
                        Ok(Some(resource))
                    }
                    Ok(_) | Err(kube::Error::Discovery(_)) => Ok(None),
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                    Err(error) => Err(error),
                }
            };
            let Some(found) = bounded(scalable).await? else { return Ok(None) };
            found
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
        Ok(Some(found))
    }
}

/// Whether the place may be asked for keys: what it is asked with goes to an allowed endpoint, and there to nobody but who
/// is to be trusted. While those certificates are missing, the well-known ones are no substitute.
fn may_be_asked(source: &Source, ca: &Certificates, allowed: &EndpointPolicy) -> Result<(), SourceError> {
    let Some(sts) = source.endpoint() else { return Ok(()) };
    allowed.check_sts(sts).map_err(SourceError::NotAllowed)?;
    if ca.is_err() { Err(SourceError::Untrusted) } else { Ok(()) }
}

/// Certificates, if every client can read them. `passing`: they may change without the object being changed.
fn certificates(text: &str, place: &str, passing: bool) -> Certificates {
    match check_bundle(text) {
        Ok(()) => Ok(Some(text.into())),
        Err(error) => Err(Missing { words: format!("{place}: {error}"), passing }),
    }
}

/// Discovery lists subresources by their own name, or by that of their resource before it.
fn is_scale(plural: &str) -> bool {
    plural == "scale" || plural.ends_with("/scale")
}

#[cfg(test)]
mod tests;
