//! Writes the status, if it differs from what is there and it is time to, and tells the events of what changed.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use sluice_crds::ConsumerGroupStatus;
use sluice_crds::status::ConditionType;
use tracing::{debug, info};

use super::apply::Writer;
use super::build::{self, FIELD_MANAGER, Notice};
use super::objects;
use super::plan::{Plan, Truth};
use crate::fault::{Fault, bounded};
use crate::slots::GroupRef;
use crate::time::Time;

/// Figures alone are written no more often.
const FIGURES_EVERY: Duration = Duration::from_secs(30);

/// Whether a status has to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It says what is there already.
    Never,
    /// Something has happened.
    Now,
    /// Only figures and words have moved: not before then.
    At(Time),
}

/// Whether `new` has to be written where `old` is, if the last write was at `last`.
pub fn due(old: &ConsumerGroupStatus, new: &ConsumerGroupStatus, last: Option<Time>, at: Time) -> Due {
    if old == new {
        return Due::Never;
    }
    let gist = |status: &ConsumerGroupStatus| {
        let conditions = status.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone()));
        let generations = status.conditions.iter().map(|c| c.observed_generation).collect::<Vec<_>>();
        // A plan that is not carried out is a figure as others are: it rises and falls with the load.
        let scaling = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Scaling.as_str());
        let plan =
            status.plan.as_ref().filter(|_| scaling.is_some_and(|scaling| scaling.status == Truth::True.as_str()));
        let plan = plan.map(|plan| plan.replicas);
        let all = (status.observed_generation, status.replicas, status.selector.clone(), plan);
        (conditions.collect::<Vec<_>>(), generations, all)
    };
    match last.map(|last| last + FIGURES_EVERY) {
        Some(next) if at < next && gist(old) == gist(new) => Due::At(next),
        _ => Due::Now,
    }
}

/// What is remembered of the writes to one object.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// The resource version and the status that the last write left.
    last: Option<(u64, ConsumerGroupStatus)>,
    /// When that was.
    at: Option<Time>,
}

impl Written {
    /// The status that is there: as the watch last told, or as this process wrote it since.
    pub fn present(&self, version: Option<&str>, told: Option<&ConsumerGroupStatus>) -> ConsumerGroupStatus {
        let told_version = version.and_then(|version| version.parse::<u64>().ok());
        match (&self.last, told) {
            (Some((written, status)), Some(_)) if told_version.is_some_and(|told| told < *written) => status.clone(),
            (_, Some(told)) => told.clone(),
            // There is none, or none that can be read: writing it again and again would not mend it.
            (Some((_, status)), None) => status.clone(),
            (None, None) => ConsumerGroupStatus::default(),
        }
    }
}

/// An object as far as its status is concerned.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Which ConsumerGroup.
    pub name: GroupRef,
    /// The UID of the object.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// Its status, as the watch last told.
    pub status: Option<ConsumerGroupStatus>,
    /// The resource version that this was of.
    pub version: Option<String>,
}

/// Writes the status that `plan` calls for. When to look again, if it is too early to write.
pub async fn write(
    writer: &Writer,
    subject: &Subject,
    plan: &Plan,
    written: &mut Written,
    at: Time,
) -> Result<Option<Time>, Fault> {
    let old = written.present(subject.version.as_deref(), subject.status.as_ref());
    let new = build::status(&subject.name, subject.generation, plan, &old, k8s_openapi::jiff::Timestamp::now());
    match due(&old, &new, written.at, at) {
        Due::Never => return Ok(None),
        Due::At(next) => return Ok(Some(next)),
        Due::Now => {}
    }
    writer.may_write()?;
    // Whatever stands in the rest of the object: only the status of the answer is read.
    let api =
        Api::<DynamicObject>::namespaced_with(writer.client.clone(), &subject.name.namespace, &objects::resource());
    let patch = build::status_patch(&subject.name, &new);
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let answer = bounded(api.patch_status(&subject.name.name, &parameters, &Patch::Apply(&patch))).await;
    let answer = answer.map_err(|error| writer.failed(error))?;
    writer.metrics.wrote("status");
    debug!(group = %subject.name, "status written");
    let version = answer.metadata.resource_version.and_then(|version| version.parse().ok());
    // Compared with what the API server made of it: it may know fewer fields than this operator.
    let left = answer.data.get("status").and_then(|status| serde_json::from_value(status.clone()).ok());
    written.last = version.map(|version| (version, left.unwrap_or_else(|| new.clone())));
    written.at = Some(at);
    for notice in build::notices(&old, &new, &plan.advice) {
        tell(writer, subject, notice).await;
    }
    Ok(None)
}

/// Publishes an event about a ConsumerGroup.
pub async fn tell(writer: &Writer, subject: &Subject, notice: Notice) {
    let regarding = ObjectReference {
        api_version: Some("sluice.dev/v1alpha1".to_owned()),
        kind: Some("ConsumerGroup".to_owned()),
        name: Some(subject.name.name.to_string()),
        namespace: Some(subject.name.namespace.to_string()),
        uid: Some(subject.uid.clone()),
        ..ObjectReference::default()
    };
    tell_of(writer, &regarding, notice).await;
}

/// Publishes an event about an object. One that can't be published is counted, and nothing else suffers.
pub async fn tell_of(writer: &Writer, regarding: &ObjectReference, notice: Notice) {
    let (kind, namespace, name) = (&regarding.kind, &regarding.namespace, &regarding.name);
    let [kind, namespace, name] = [kind, namespace, name].map(|part| part.as_deref().unwrap_or_default());
    let Notice { warning, reason, note, .. } = &notice;
    info!(kind, namespace, name, reason, note, warning, "event");
    let event = Event {
        type_: if notice.warning { EventType::Warning } else { EventType::Normal },
        reason: notice.reason,
        note: Some(notice.note),
        action: notice.action.to_owned(),
        secondary: None,
    };
    match bounded(writer.recorder.publish(&event, regarding)).await {
        Ok(()) => writer.metrics.wrote("event"),
        Err(fault) => {
            let fault = writer.failed(fault);
            writer.metrics.event_dropped();
            debug!(kind, namespace, name, %fault, "an event could not be published");
        }
    }
}

/// What publishes events, under the operator's name.
pub fn recorder(client: kube::Client, identity: String) -> Arc<Recorder> {
    let reporter =
        kube::runtime::events::Reporter { controller: "sluice-operator".to_owned(), instance: Some(identity) };
    Arc::new(Recorder::new(client, reporter))
}

#[cfg(test)]
mod tests;
