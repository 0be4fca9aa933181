//! Makes the requests out of a plan: the status as it should be, the patches, the events. Pure; times are arguments.

mod events;
mod figures;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time as WallTime};
use serde_json::{Value, json};
use sluice_crds::ConsumerGroupStatus;
use sluice_crds::status::{BacklogStatus, ConditionType, Plan as PlanStatus, SidecarsStatus, SlotsStatus};

use super::plan::{Cost, Keep, Plan, ScaleTo, Truth, Verdict};
use super::pods::DELETION_COST;
use crate::inject::names::GROUP_LABEL;
use crate::slots::GroupRef;

pub use events::{Notice, no_such_group, notices, scaled};

/// Who owns the fields that the operator writes.
pub const FIELD_MANAGER: &str = "sluice";

/// The longest message that a condition takes.
const MESSAGE: usize = 32_768;

/// The status as it should be. `old` is what it is: transitions are told by it.
pub fn status(
    name: &GroupRef,
    generation: i64,
    plan: &Plan,
    old: &ConsumerGroupStatus,
    now: Timestamp,
) -> ConsumerGroupStatus {
    let figures = &plan.figures;
    // What is not known just now is not taken back: a new leader hears of its sidecars and of the platform by and by.
    let (sidecars, all) = (plan.keep != Keep::Nothing, plan.keep == Keep::All);
    let waits = |kind| plan.verdicts.iter().any(|verdict| verdict.kind == kind && verdict.truth.is_none());
    let said = |condition: &&Condition| !plan.verdicts.iter().any(|verdict| verdict.kind.as_str() == condition.type_);
    let stays = old.conditions.iter().filter(said).filter(|_| all).cloned();
    let whole = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    ConsumerGroupStatus {
        observed_generation: Some(generation),
        conditions: plan.verdicts.iter().map(|verdict| condition(verdict, generation, old, now)).chain(stays).collect(),
        replicas: figures.replicas.map(whole),
        selector: Some(format!("{GROUP_LABEL}={}", name.name)),
        slots: figures
            .slots
            .map(|(held, limit)| SlotsStatus::new(whole(held), whole(limit)))
            .or_else(|| old.slots.clone().filter(|_| sidecars)),
        backlog: figures
            .backlog
            .map(|(messages, eta)| BacklogStatus {
                messages: i64::try_from(figures::round(messages)).unwrap_or(i64::MAX),
                drain_eta: eta.map(figures::round_span),
            })
            .or_else(|| old.backlog.clone().filter(|_| all || waits(ConditionType::BacklogExpiring))),
        rate: figures
            .rate
            .map(|rate| i64::try_from(figures::round(rate)).unwrap_or(i64::MAX))
            .or(old.rate.filter(|_| sidecars)),
        plan: figures
            .plan
            .as_ref()
            .map(|(replicas, reason)| PlanStatus { replicas: whole(*replicas), reason: cut(reason, MESSAGE) })
            .or_else(|| old.plan.clone().filter(|_| all || waits(ConditionType::Scaling))),
        sidecars: figures
            .sidecars
            .map(|(connected, standby, outdated)| SidecarsStatus {
                connected: whole(connected),
                standby: whole(standby),
                outdated: whole(outdated),
            })
            .or_else(|| old.sidecars.clone().filter(|_| sidecars)),
    }
}

fn condition(verdict: &Verdict, generation: i64, old: &ConsumerGroupStatus, now: Timestamp) -> Condition {
    let known = old.conditions.iter().find(|condition| condition.type_ == verdict.kind.as_str());
    let truth = match (verdict.truth, known) {
        (Some(truth), _) => truth,
        (None, Some(known)) if known.observed_generation == Some(generation) => return known.clone(),
        (None, _) => Truth::Unknown,
    };
    let since = known.filter(|known| known.status == truth.as_str()).map(|known| known.last_transition_time.clone());
    Condition {
        type_: verdict.kind.as_str().to_owned(),
        status: truth.as_str().to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        message: cut(&verdict.message, MESSAGE),
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or(WallTime(now)),
    }
}

/// The status as a server-side apply takes it. Everything that is not in it and was the operator's is taken away.
pub fn status_patch(name: &GroupRef, status: &ConsumerGroupStatus) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "ConsumerGroup",
        "metadata": {"name": &*name.name, "namespace": &*name.namespace},
        "status": status,
    })
}

/// The replicas, if nobody has written the workload since they were decided on.
pub fn scale_patch(scale: &ScaleTo) -> Value {
    json!({"metadata": {"resourceVersion": scale.version}, "spec": {"replicas": scale.replicas}})
}

/// The cost of deletion of this very pod.
pub fn cost_patch(cost: &Cost) -> Value {
    let value = cost.cost.map(|cost| cost.to_string());
    json!({"metadata": {"uid": cost.uid, "annotations": {DELETION_COST: value}}})
}

/// At most so many bytes of it.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub(3)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests;
