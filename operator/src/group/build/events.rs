//! Events: what has changed, told once. They follow from the status before and after, so a restarted operator does not
//! tell them again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sluice_crds::ConsumerGroupStatus;
use sluice_crds::status::{ConditionType, Reason};

use super::cut;
use crate::group::plan::{Advice, ScaleTo};
use crate::inject::names::GROUP_LABEL;
use crate::slots::GroupRef;

/// The longest note that an event takes.
const NOTE: usize = 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Somebody should look.
    pub warning: bool,
    /// What was done when it was found.
    pub action: &'static str,
    /// What has happened, in a word.
    pub reason: String,
    /// What has happened, in a sentence.
    pub note: String,
}

/// What to tell of a status that is written.
pub fn notices(old: &ConsumerGroupStatus, new: &ConsumerGroupStatus, advice: &[Advice]) -> Vec<Notice> {
    let mut notices: Vec<Notice> = Vec::new();
    for condition in &new.conditions {
        let before = old.conditions.iter().find(|known| known.type_ == condition.type_);
        let told = transition(before, condition);
        // `Ready` repeats what `CredentialsValid` says: once is enough.
        notices.extend(told.filter(|notice| !notices.iter().any(|known| known.reason == notice.reason)));
    }
    let shown = |status: &ConsumerGroupStatus, text: &str| {
        let ready = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.as_str());
        ready.is_some_and(|ready| ready.message.contains(text))
    };
    for Advice { reason, message } in advice {
        // Names and numbers change; what is wrong does not.
        let stem = message.rsplit_once(" (").map_or(message.as_str(), |(stem, _)| stem);
        if shown(new, stem) && !shown(old, stem) && !notices.iter().any(|known| known.reason == *reason) {
            notices.push(notice(true, (*reason).to_owned(), message));
        }
    }
    notices
}

/// That the workload was scaled.
pub fn scaled(scale: &ScaleTo) -> Notice {
    let note = format!("scaled from {} to {}: {}", scale.from, scale.replicas, scale.reason);
    Notice { action: "Scale", ..notice(false, "Scaled".to_owned(), &note) }
}

/// That the pods with this ConsumerGroup's name in their label look for it in vain.
pub fn no_such_group(name: &GroupRef) -> Notice {
    let note = format!(
        "the label {GROUP_LABEL} names ConsumerGroup {}, which does not exist in namespace {}: create it, or correct the \
         label in the pod's template; until then the pod consumes nothing",
        name.name, name.namespace
    );
    notice(true, "ConsumerGroupNotFound".to_owned(), &note)
}

fn transition(before: Option<&Condition>, now: &Condition) -> Option<Notice> {
    let bad = now.status == if is_alarm(&now.type_) { "True" } else { "False" };
    let same = before.is_some_and(|before| before.status == now.status && (before.reason == now.reason || !bad));
    // That nothing is wrong with something new goes without saying, and so does what is not known, or was not for a while;
    // but that it begins to work does not.
    let begins = [Reason::Connecting, Reason::Unverified].map(Reason::as_str);
    let unheard = before.is_none_or(|before| before.status == "Unknown" && !begins.contains(&before.reason.as_str()));
    let silent = now.status == "Unknown" || (unheard && !bad);
    if same || silent {
        return None;
    }
    let expected = [Reason::NoWorkload, Reason::Connecting, Reason::Paused].map(Reason::as_str);
    let harmless = expected.contains(&now.reason.as_str());
    if before.is_none() && harmless {
        return None;
    }
    Some(notice(bad && !harmless, now.reason.clone(), &format!("{}: {}", now.type_, now.message)))
}

/// Whether a condition is bad when it is true.
fn is_alarm(kind: &str) -> bool {
    [ConditionType::AtCapacity, ConditionType::BacklogExpiring].iter().any(|alarm| alarm.as_str() == kind)
}

fn notice(warning: bool, reason: String, note: &str) -> Notice {
    Notice { warning, action: "Reconcile", reason, note: cut(note, NOTE) }
}
