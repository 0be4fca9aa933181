//! The condition `Ready`, and what a person should know of the pods.

use std::sync::Arc;
use std::time::Duration;

use sluice_crds::status::{ConditionType, Reason};

use super::conditions;
use super::{Advice, Past, Truth, Verdict};
use crate::group::dereference::{Target, World};
use crate::group::pods::Pod;
use crate::group::validate::Validated;
use crate::time::Time;

const KIND: ConditionType = ConditionType::Ready;
/// What the sidecar keeps of a pod's grace period to close its links and give its slot back.
const CLOSING: Duration = Duration::from_secs(5);
/// So many pods are named; of the others it is said how many there are.
const NAMED: usize = 3;

pub(super) fn verdict(world: &World, keys: &Verdict, advice: &[Advice]) -> Verdict {
    let mut verdict = assess(world, keys);
    for Advice { message, .. } in advice {
        if !verdict.message.contains(message) {
            verdict.message = format!("{}; {message}", verdict.message);
        }
    }
    verdict
}

fn assess(world: &World, keys: &Verdict) -> Verdict {
    let say = |truth, reason, words: String| Verdict::new(KIND, truth, reason, words);
    let living: Vec<_> = world.pods.iter().filter(|pod| pod.counts()).collect();
    let bare = living.iter().filter(|pod| pod.sidecar.is_none()).count();
    if bare > 0 && bare == living.len() {
        return say(Truth::False, Reason::SidecarMissing, without_sidecar(&living));
    }
    let bad_keys = keys.truth == Some(Truth::False);
    let Some(view) = &world.sidecars else {
        // Their links may well be up, whatever the keys are like now.
        return if bad_keys {
            Verdict::unless_known(KIND, keys.reason, keys.message.clone())
        } else {
            Verdict::unless_known(KIND, Reason::Connecting, "the sidecars have not reported yet")
        };
    };
    let up = view.pods.values().filter(|sidecar| sidecar.up).count();
    let all = living.len() - bare;
    if up > 0 {
        // What is wrong stops no link that is up; it will stop the next one.
        let mut words = format!("{up} of {} pods have their links up", all.max(up));
        for trouble in [bad_keys.then_some(&keys.message), view.fault.as_ref()].into_iter().flatten() {
            words = format!("{words}; but {trouble}");
        }
        return say(Truth::True, Reason::Consuming, words);
    }
    if bad_keys {
        return say(Truth::False, keys.reason, keys.message.clone());
    }
    if let Some(fault) = &view.fault {
        return say(Truth::False, Reason::NotConnected, fault.clone());
    }
    if keys.truth.is_none() {
        return Verdict::unless_known(KIND, keys.reason, keys.message.clone());
    }
    if living.is_empty() {
        return match &world.target {
            Some(Target::NotFound | Target::NotScalable(_)) => {
                let words = "there are no pods, and spec.workload names what is not there";
                say(Truth::False, Reason::TargetNotFound, words.to_owned())
            }
            _ => say(Truth::True, Reason::NoPods, "all is in place, and no pod runs".to_owned()),
        };
    }
    if let Some(refusal) = &view.refusal {
        return say(Truth::False, Reason::NotConnected, format!("no link comes up: {}", refusal.words));
    }
    let words =
        format!("{all} pods run, and none has its link up yet; a sidecar connects once its application attaches");
    say(Truth::False, Reason::Connecting, words)
}

/// What a person should know of the pods, and of others at the platform's group.
pub(super) fn advice(group: &Validated, world: &World, past: &mut Past, at: Time) -> Vec<Advice> {
    let living: Vec<_> = world.pods.iter().filter(|pod| pod.counts()).collect();
    let mut advice = Vec::new();
    let bare: Vec<_> = living.iter().copied().filter(|pod| pod.sidecar.is_none()).collect();
    if !bare.is_empty() {
        advice.push(Advice { reason: Reason::SidecarMissing.as_str(), message: without_sidecar(&bare) });
    }
    let needed = group.spec.delivery.lease_duration.get() + CLOSING;
    let short = |pod: &&Arc<Pod>| {
        let grace = u64::try_from(pod.grace_seconds).unwrap_or_default();
        pod.sidecar.is_some() && Duration::from_secs(grace) < needed
    };
    let short: Vec<_> = living.iter().copied().filter(short).collect();
    if !short.is_empty() {
        let seconds = needed.as_secs() + u64::from(needed.subsec_nanos() > 0);
        let message = format!(
            "the termination grace period is too short for the lease, so messages in hand are handed back when a pod \
             ends: set terminationGracePeriodSeconds to {seconds} or more (pods {})",
            names(&short)
        );
        advice.push(Advice { reason: "GracePeriodTooShort", message });
    }
    if world.sidecars.as_ref().is_some_and(|view| view.stuck) {
        let message = "the rollout has stopped, since pods of the new revision could not connect: those of the old one \
                       keep the client slots until there is another revision, or a new pod that connects; see what the \
                       new pods' sidecars log";
        advice.push(Advice { reason: "RolloutStuck", message: message.to_owned() });
    }
    let clients = world.platform.as_ref().and_then(|platform| platform.clients);
    let clients = clients.filter(|_| conditions::fresh(world, at).is_some());
    if let (Some(clients), Some(view)) = (clients, &world.sidecars)
        && past.crowded(clients > view.held, at)
    {
        let message = format!(
            "somebody else consumes this group too, and gets a share of its messages: give each application a consumer \
             group of its own, or lower limits.clientSlots by as many (the platform counts {clients} clients, and {} client \
             slots are held)",
            view.held
        );
        advice.push(Advice { reason: "ForeignClients", message });
    }
    advice
}

fn without_sidecar(pods: &[&Arc<Pod>]) -> String {
    let bare: Vec<_> = pods.iter().copied().filter(|pod| pod.sidecar.is_none()).collect();
    format!(
        "pods carry the label and have no sidecar, so they consume nothing: delete them, that they are made anew and \
         injected (pods {})",
        names(&bare)
    )
}

fn names(pods: &[&Arc<Pod>]) -> String {
    let mut names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let list = names.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}
